"""Getting to a Supabase project: keys, URLs, what stands there, and a network that fails."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.types import Receive, Scope, Send
from store_cases import KEY, NOON, RUN_1, SettableClock, make_campaign, reserve, send, take_lease
from supabase_rig import Project, Proxy

from prefect_campaigns.blocks.store_types import AttemptState, AuditAction, AuditEntry, Stop
from prefect_campaigns.blocks.supabase.client import SupabaseApi
from prefect_campaigns.blocks.supabase.migrate import migrations
from prefect_campaigns.blocks.supabase.store import SupabaseStore
from prefect_campaigns.deployments.demo.serving import serve
from prefect_campaigns.errors import LeaseLost, StoreError, StoreMisconfigured, StoreUnavailable

SECRET = "sb_secret_do-not-show-this"


async def refused(url: str, key: str, kind: type[StoreError] = StoreMisconfigured) -> str:
    """Return what a store says that cannot be opened; never with a secret in it."""
    with pytest.raises(kind) as raised:
        async with SupabaseStore(url, key, timeout_seconds=5):
            pass
    assert type(raised.value) is kind
    error: BaseException | None = raised.value
    while error is not None:
        assert key not in f"{error!r} {error}"
        error = error.__cause__
    return str(raised.value)


class TestKeys:
    async def test_a_wrong_key_is_told_what_the_right_one_is(self, supabase: Project) -> None:
        said = await refused(supabase.url, SECRET)
        assert said == (
            f"Supabase at {supabase.url} does not accept the key; use the secret key (sb_secret_…), or the older"
            " service_role key, which the Supabase dashboard shows under Project Settings, API Keys"
        )

    async def test_the_key_for_browsers_is_sent_nowhere(self, supabase: Project, free_url: str) -> None:
        for key, kind in ((supabase.publishable_key, "publishable"), (supabase.jwt("anon"), "anon")):
            said = await refused(free_url, key)
            assert f"is the {kind} key, which is made for browsers" in said
            assert "use the secret key (sb_secret_…)" in said

    async def test_the_older_service_role_key_is_as_good(self, clean_supabase: Project) -> None:
        with clean_supabase.legacy_api() as url:
            async with SupabaseStore(url, clean_supabase.jwt("service_role")) as store:
                assert await store.list_campaigns() == []

    async def test_a_users_token_may_not(self, supabase: Project) -> None:
        with supabase.legacy_api() as url:
            said = await refused(url, supabase.jwt("authenticated"))
        assert "may not use the campaign tables; use the secret key" in said

    @pytest.mark.parametrize("key", ["", "   ", "sb_secret_two words", "sb_secret_ünicode", "sb_secret_line\nbreak"])
    async def test_what_cannot_be_a_key_is_not_repeated(self, free_url: str, key: str) -> None:
        with pytest.raises(StoreMisconfigured, match="allowed is a key of the project") as raised:
            async with SupabaseStore(free_url, key):
                pass
        assert not key.strip() or key not in str(raised.value)

    async def test_spaces_around_it_do_not_matter(self, supabase: Project) -> None:
        async with SupabaseStore(f" {supabase.url}/ ", f" {supabase.secret_key}\n") as store:
            assert store.books == supabase.url

    async def test_it_is_in_no_log_and_in_no_description(
        self, clean_supabase: Project, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key) as store:
            await store.save_campaign(make_campaign())
            described = f"{store!r} {vars(store)!r} {vars(store._api)!r}"
        assert "POST" in caplog.text
        assert clean_supabase.secret_key not in caplog.text + described


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that is ours, and on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def free_url(free_port: int) -> str:
    """Where nobody listens."""
    return f"http://127.0.0.1:{free_port}"


@asynccontextmanager
async def somebody_else(answer: Response) -> AsyncIterator[str]:
    """Serve one answer to everything."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)

    async with serve(app) as url:
        yield url


HTML = "<html><body>Welcome</body></html>"


class TestWhatStandsThere:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("", "allowed is the project's URL, such as https://abcdefgh.supabase.co"),
            ("abcdefgh.supabase.co", "allowed is the project's URL"),
            ("postgresql://postgres:hunter2@db.abcdefgh.supabase.co/postgres", "allowed is the project's URL"),
            ("https://supabase.com/dashboard/project/abcdefgh", "allowed is the project's URL"),
            ("https://abcdefgh.supabase.co/rest/v1", "allowed is the project's URL"),
            ("https://me:hunter2@abcdefgh.supabase.co", "without user name and password"),
            ("http://abcdefgh.supabase.co", "anywhere else the key needs https"),
        ],
    )
    async def test_what_cannot_be_its_url_is_told_and_not_repeated(self, url: str, said: str) -> None:
        told = await refused(url, SECRET)
        assert said in told
        assert "hunter2" not in told

    async def test_a_host_that_does_not_exist_is_no_project(self) -> None:
        said = await refused("https://nobody.invalid", SECRET)
        assert "there is no Supabase project at https://nobody.invalid (no such host)" in said

    async def test_nobody_listening_is_an_outage(self, free_url: str) -> None:
        assert "did not answer" in await refused(free_url, SECRET, StoreUnavailable)

    async def test_https_where_there_is_none_is_told(self, supabase: Project) -> None:
        said = await refused(supabase.url.replace("http:", "https:"), SECRET)
        assert "cannot be trusted" in said
        assert "check the URL" in said

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (HTMLResponse(HTML), "there is no Supabase project"),
            (HTMLResponse(HTML, 404), "there is no Supabase project"),
            (HTMLResponse(HTML, 403), "there is no Supabase project"),
            (JSONResponse({"detail": "Not Found"}, 404), "there is no Supabase project"),
            (JSONResponse({"message": "no Route matched with those values"}, 404), "there is no Supabase project"),
            (JSONResponse([1, 2]), "there is no Supabase project"),
            (JSONResponse({"value": 1, "more": 2}), "there is no Supabase project"),
            (JSONResponse({"error": "not ours"}), "an answer that is not Supabase's came"),
            (JSONResponse({"error": None}), "an answer that is not Supabase's came"),
            (
                JSONResponse({"error": {"kind": ["StoreError"], "message": "…"}}),
                "an answer that is not Supabase's came",
            ),
            (PlainTextResponse(""), "an answer that is not JSON came"),
            # The first two bytes say that it is UTF-16, and the rest is not.
            (Response(b'\xff\xfe{"value":1}', media_type="application/json"), "an answer that is not JSON came"),
            (Response(HTML, media_type="text/html; charset=utf-16"), "an answer that is not JSON came"),
            (Response(b"[" * 100_000, media_type="application/json"), "an answer that is not JSON came"),
            (Response("{}", headers={"content-encoding": "gzip"}), "an answer that is not JSON came"),
            (RedirectResponse("https://elsewhere.example.com"), "there is no Supabase project"),
            # What the hosted service says.
            (JSONResponse({"message": "Invalid API key", "hint": "Double check …"}, 401), "does not accept the key"),
            (JSONResponse({"code": "PGRST301", "message": "JWSError"}, 401), "does not accept the key"),
            (JSONResponse({"code": "42501", "message": "permission denied"}, 403), "may not use the campaign tables"),
            (JSONResponse({"code": "PGRST202", "message": "…"}, 404), "run `campaigns db migrate`"),
            (JSONResponse({"code": "PGRST205", "message": "…"}, 404), "run `campaigns db migrate`"),
            (JSONResponse({"code": "PGRST106", "message": "not in schema"}, 406), "answered HTTP 406: not in schema"),
            (HTMLResponse(HTML, 540), "is paused; restore it"),
        ],
        ids=lambda value: value if isinstance(value, str) else f"{value.status_code} {bytes(value.body)[:30]!r}",
    )
    async def test_what_answers_otherwise_cannot_be_used(self, answer: Response, said: str) -> None:
        async with somebody_else(answer) as url:
            assert said in await refused(url, SECRET)

    @pytest.mark.parametrize(
        "answer",
        [
            HTMLResponse(HTML, 502),
            JSONResponse({"message": "name resolution failed"}, 503),
            JSONResponse({"code": "PGRST002", "message": "Could not query the database for the schema cache"}, 503),
            JSONResponse({"code": "57014", "message": "canceling statement due to statement timeout"}, 500),
            JSONResponse({"code": "55P03", "message": "canceling statement due to lock timeout"}, 500),
            PlainTextResponse("slow down", 429),
            Response(b"[" * 100_000, 500, media_type="application/json"),
            Response("{}", 503, headers={"content-encoding": "gzip"}),
        ],
        ids=lambda answer: f"{answer.status_code} {bytes(answer.body)[:30]!r}",
    )
    async def test_what_may_answer_later_is_an_outage(self, answer: Response) -> None:
        async with somebody_else(answer) as url:
            said = await refused(url, SECRET, StoreUnavailable)
        assert f"did not answer: HTTP {answer.status_code}" in said
        assert "html" not in said

    @pytest.mark.parametrize(
        ("kind", "raised"),
        [
            ("StoreError", StoreError),
            ("LeaseLost", LeaseLost),
            # Of a newer database.
            ("SomethingNew", StoreError),
        ],
    )
    async def test_what_the_database_says_is_told(self, kind: str, raised: type[StoreError]) -> None:
        async with somebody_else(JSONResponse({"error": {"kind": kind, "message": "what it says"}})) as url:
            assert await refused(url, SECRET, raised) == "what it says"

    @pytest.mark.parametrize("body", [b"", b'{"value": '], ids=["headers", "half"])
    @pytest.mark.parametrize(
        ("patience_seconds", "raised"),
        [
            (5, StoreUnavailable),
            # Whoever waits no longer hears that, and nothing about Supabase.
            (0.2, TimeoutError),
        ],
    )
    async def test_an_answer_that_does_not_end_is_waited_for_no_longer_than_need_be(
        self, body: bytes, patience_seconds: float, raised: type[Exception]
    ) -> None:
        async def halting() -> AsyncIterator[bytes]:
            yield body
            await asyncio.sleep(60)

        async with somebody_else(StreamingResponse(halting(), media_type="application/json")) as url:
            api = SupabaseApi(url, SECRET, timeout_seconds=0.5)
            await api.open()
            try:
                with pytest.raises(raised):
                    async with asyncio.timeout(patience_seconds):
                        await api.call("campaigns_list")
            finally:
                await api.close()

    async def test_a_project_without_our_tables_is_told_what_to_do(self, supabase: Project) -> None:
        with supabase.database() as empty:
            said = await refused(empty.url, empty.secret_key)
        assert "has no campaign tables, or older ones" in said
        assert "run `campaigns db migrate`, or paste what `campaigns db migrate --sql` prints" in said

    async def test_tables_of_an_older_or_a_newer_version_are_told(self, clean_supabase: Project) -> None:
        last = migrations()[-1].name
        clean_supabase.sql("delete from campaign_migrations where name = $1", last)
        said = await refused(clean_supabase.url, clean_supabase.secret_key)
        assert f"of an older version ({last} missing); run `campaigns db migrate`" in said
        clean_supabase.sql("insert into campaign_migrations (name) values ($1), ('9999_later')", last)
        said = await refused(clean_supabase.url, clean_supabase.secret_key)
        assert "of a newer prefect-campaigns (9999_later); upgrade this one" in said

    async def test_it_is_opened_once_and_used_while_it_is_open(self, clean_supabase: Project) -> None:
        store = SupabaseStore(clean_supabase.url, clean_supabase.secret_key)
        with pytest.raises(StoreError, match="is not open"):
            await store.list_campaigns()
        async with store:
            with pytest.raises(StoreError, match="is already open"):
                await store.__aenter__()
            assert await store.list_campaigns() == []
        with pytest.raises(StoreError, match="is not open"):
            await store.list_campaigns()
        async with store:
            assert await store.list_campaigns() == []


@pytest.fixture
async def store(supabase_proxy: Proxy, supabase: Project) -> AsyncIterator[SupabaseStore]:
    """A store behind a network that can be disturbed, with one campaign."""
    clock = SettableClock()
    async with SupabaseStore(supabase_proxy.url, supabase.secret_key, clock=clock, timeout_seconds=0.5) as store:
        await store.save_campaign(make_campaign())
        yield store


class TestNetwork:
    @pytest.mark.parametrize("disturb", ["refuse", "stall", "mute", "cut"])
    async def test_no_answer_is_an_outage_within_the_time(
        self, store: SupabaseStore, supabase_proxy: Proxy, disturb: str
    ) -> None:
        lease = await take_lease(store)
        getattr(supabase_proxy, disturb)()
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable, match=r"Supabase at http://127\.0\.0\.1:\d+ did not answer"):
                await reserve(store, lease)
        supabase_proxy.pass_on()
        assert (await reserve(store, lease)).state is AttemptState.HELD

    async def test_an_act_whose_answer_got_lost_is_done_once(self, store: SupabaseStore, supabase_proxy: Proxy) -> None:
        lease = await take_lease(store)
        sent = await send(store, lease, "1")
        supabase_proxy.mute()
        with pytest.raises(StoreUnavailable):
            await store.settle(lease, sent, Decimal("0.75"))
        supabase_proxy.pass_on()
        assert (await store.settle(lease, sent, Decimal("0.75"))).state is AttemptState.SETTLED
        assert await store.run_cost(RUN_1) == Decimal("0.75")

    async def test_a_connection_that_broke_is_made_up_for_once(
        self, store: SupabaseStore, supabase_proxy: Proxy
    ) -> None:
        lease = await take_lease(store)
        supabase_proxy.cut(once=True)
        sent = await reserve(store, lease, "1")
        assert (await store.budget_status(KEY)).limits[0].reserved == 1
        assert sent.state is AttemptState.HELD

    async def test_what_must_not_be_said_twice_is_said_once(self, store: SupabaseStore, supabase_proxy: Proxy) -> None:
        lease = await take_lease(store)
        held = await reserve(store, lease, "1")
        supabase_proxy.cut(once=True)
        with pytest.raises(StoreUnavailable):
            await store.mark_sent(lease, held)
        # It was heard; nobody was told. The request did not leave, and its money is given back.
        assert (await store.attempts(RUN_1, "find"))[0].state is AttemptState.SENT
        assert (await store.release(lease, held)).state is AttemptState.RELEASED

    async def test_what_must_not_be_written_down_twice_is_written_once(
        self, store: SupabaseStore, supabase_proxy: Proxy
    ) -> None:
        entry = AuditEntry(at=NOON, actor="ada", action=AuditAction.ALL_STOPPED)
        stop = Stop(by="ada", reason="the list is wrong", since=NOON)
        for act in (store.record_audit(entry), store.set_stop(stop)):
            supabase_proxy.cut(once=True)
            with pytest.raises(StoreUnavailable):
                await act
        # Both were heard, and whoever stops again is told that it is their own stop that stands.
        assert list(await store.list_audit()) == [entry]
        assert await store.set_stop(stop) == stop

    async def test_a_cancelled_call_leaves_the_store_usable(self, store: SupabaseStore, supabase_proxy: Proxy) -> None:
        supabase_proxy.mute()
        call = asyncio.create_task(store.list_campaigns())
        await supabase_proxy.until_held()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        supabase_proxy.pass_on()
        assert len(await store.list_campaigns()) == 1


async def test_what_the_database_refuses_is_told(clean_supabase: Project) -> None:
    """An answer of the database that no act foresees: here, somebody has tampered with the totals."""
    async with SupabaseStore(clean_supabase.url, clean_supabase.secret_key) as store:
        await store.save_campaign(make_campaign())
        lease = await take_lease(store)
        sent = await send(store, lease, "1")
        clean_supabase.sql("delete from campaign_totals where period = 'weekly'")
        with pytest.raises(StoreError, match="refused what it was told: the totals of spring-outreach lack a window"):
            await store.settle(lease, sent, Decimal(1))
        assert (await store.attempts(RUN_1, "find"))[0].state is AttemptState.SENT
