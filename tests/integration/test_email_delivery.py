"""Mails over real SMTP servers: plain, with a login, over TLS, and servers that fail in every way they can."""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from uuid import UUID

import pytest
from apprise.plugins.slack import NotifySlack
from certificates import Certificate, self_signed
from clocks import SettableClock
from prefect.blocks.abstract import NotificationError
from prefect.server.events.actions import SendNotification
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.schemas.responses import DeploymentResponse, FlowRunResponse
from prefect.server.schemas.states import State, StateType
from prefect.server.utilities.user_templates import render_user_template
from prefect.settings import PREFECT_UI_URL, temporary_settings
from prefect_email import EmailServerCredentials

from prefect_campaigns.blocks.email import LIMIT_SECONDS, CampaignEmail
from prefect_campaigns.blocks.email_composing import RunNotice, compose
from prefect_campaigns.blocks.email_templates import RUN_ENDED
from prefect_campaigns.deployments.demo.smtp_sink import Command, LoopbackServer, SilentServer, SmtpSink

PASSWORD = "correct horse"


NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)


def block_for(
    server: LoopbackServer | int, *, smtp_type: str = "INSECURE", limit_seconds: float = 5, **credentials: object
) -> CampaignEmail:
    block = CampaignEmail(
        credentials=EmailServerCredentials(
            smtp_server="127.0.0.1",
            smtp_port=server if isinstance(server, int) else server.port,
            smtp_type=smtp_type,
            **credentials,
        ),
        sender="Campaigns <campaigns@example.com>",
        recipient="ops@example.com",
    )
    block._limit_seconds = limit_seconds
    return block


async def log_of_failing(block: CampaignEmail, body: str = "Hello.", subject: str | None = None) -> str:
    with block.raise_on_failure(), pytest.raises(NotificationError) as failure:
        await block.notify(body, subject)
    assert failure.value.__cause__ is None and failure.value.__context__ is None
    return failure.value.log


async def send(block: CampaignEmail, body: str = "Hello.", subject: str | None = "Greeting") -> None:
    with block.raise_on_failure():
        await block.notify(body, subject)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(handler: Handler) -> AsyncIterator[int]:
    """Serve connections by hand, and yield the port; a handler that is still busy at the end is cut off."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def scripted(*answers: str | None) -> Handler:
    """Return a handler that greets with the first answer and gives each command the next; None hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            if answer is None:
                return
            writer.write(answer.encode() + b"\r\n")
            await writer.drain()
            line = await reader.readline()
            if answer.startswith("354"):
                while line not in (b".\r\n", b""):
                    line = await reader.readline()
        # Silent from here on, until the client goes.
        await reader.read()

    return handle


# --- Delivered -------------------------------------------------------------------------------------------------------


async def test_a_mail_arrives_with_its_envelope() -> None:
    with SmtpSink() as sink:
        await send(block_for(sink), "The list is ready: ä <b>", "Grüße")
        (mail,) = sink.wait_for(1, timeout_seconds=5)
    assert (mail.sender, mail.recipients) == ("campaigns@example.com", ("ops@example.com",))
    assert (mail.login, mail.tls) == (None, False)
    assert mail.message["Subject"] == "Grüße"
    assert "The list is ready: ä <b>" in mail.text
    assert "The list is ready: ä &lt;b&gt;" in mail.html


async def test_lines_that_are_dots_do_not_end_the_mail() -> None:
    with SmtpSink() as sink:
        await send(block_for(sink), "one\n.\n..\nend")
        (mail,) = sink.messages
    assert mail.text.split() == ["Greeting", "one", ".", "..", "end"]


async def test_a_mail_arrives_after_a_login() -> None:
    with SmtpSink(login=("robot", PASSWORD)) as sink:
        await send(block_for(sink, username="robot", password=PASSWORD))
        (mail,) = sink.messages
    assert mail.login == "robot"


@pytest.mark.parametrize(("smtp_type", "implicit_tls"), [("STARTTLS", False), ("SSL", True)])
async def test_a_mail_arrives_over_tls_that_is_verified(
    smtp_type: str, implicit_tls: bool, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    with SmtpSink(tls_context=certificate.server_context, implicit_tls=implicit_tls, login=("robot", PASSWORD)) as sink:
        await send(block_for(sink, smtp_type=smtp_type, username="robot", password=PASSWORD))
        (mail,) = sink.messages
    assert (mail.tls, mail.login) == (True, "robot")


@pytest.mark.parametrize(("smtp_type", "implicit_tls"), [("STARTTLS", False), ("SSL", True)])
async def test_a_certificate_nobody_vouches_for_is_refused_unless_told_otherwise(
    smtp_type: str, implicit_tls: bool, certificate: Certificate
) -> None:
    with SmtpSink(tls_context=certificate.server_context, implicit_tls=implicit_tls) as sink:
        log = await log_of_failing(block_for(sink, smtp_type=smtp_type))
        assert sink.messages == []
        await send(block_for(sink, smtp_type=smtp_type, verify=False))
        assert len(sink.messages) == 1
    assert "certificate is not trusted: self-signed certificate" in log
    assert f"127.0.0.1:{sink.port}" in log


@pytest.mark.parametrize(
    "goodbye",
    [
        # Refuses it, hangs up, says nothing.
        "500 no",
        None,
        "",
    ],
)
async def test_a_mail_that_was_accepted_is_sent_whatever_the_goodbye(goodbye: str | None) -> None:
    accepted = ["220 hi", "250 hi", "250 ok", "250 ok", "354 go", "250 kept"]
    answers = accepted if goodbye == "" else [*accepted, goodbye]
    async with raw_server(scripted(*answers)) as port:
        await send(block_for(port, limit_seconds=0.5))


async def test_one_block_may_send_again_and_at_once() -> None:
    with SmtpSink() as sink:
        block = block_for(sink)
        await asyncio.gather(*(send(block, f"mail {number}") for number in range(5)))
        assert len(sink.messages) == 5


# --- Not delivered ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "doing", "reply"),
    [
        # The sender, for now and for ever.
        ("MAIL", "addressing", "451 4.3.0 try later"),
        ("MAIL", "addressing", "553 5.7.1 not your address"),
        # The recipient.
        ("RCPT", "addressing", "550 5.1.1 no such user here"),
        ("RCPT", "addressing", "450 4.2.0 greylisted"),
        # The mail itself.
        ("DATA", "sending", "554 5.7.1 looks like spam"),
    ],
)
async def test_what_the_server_answers_is_in_the_log(command: Command, doing: str, reply: str) -> None:
    with SmtpSink(replies={command: [reply]}) as sink:
        block = block_for(sink)
        log = await log_of_failing(block)
        assert log == (
            f"The mail to ops@example.com was not sent: 127.0.0.1:{sink.port}, {doing}: the server answered {reply}"
        )
        assert sink.messages == []
        # The script has run out: the same block sends.
        await send(block)
        assert len(sink.messages) == 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        # Busy, or no mail server at all.
        (["421 4.7.0 too many connections"], "connecting: the server answered 421 4.7.0 too many connections"),
        (["HTTP/1.1 400 Bad Request"], "connecting: the server answered Malformed SMTP response line: HTTP/1.1 400"),
        ([None], "connecting: "),
        (["220 hi", "250 hi", None], "was not sent"),
        # It hangs up when it has the whole mail: nobody knows.
        (["220 hi", "250 hi", "250 ok", "250 ok", "354 go", None], "may or may not have been sent"),
        # It has the whole mail, and its answer is no answer.
        (["220 hi", "250 hi", "250 ok", "250 ok", "354 go", "what?"], "may or may not have been sent"),
        # An answer in several lines, with control characters.
        (["220 hi", "250 hi", "550-no\x07\r\n550 never"], "addressing: the server answered 550 no never"),
        # A reply without end.
        (["220 hi", "250 hi", "550 " + "x" * 20_000], "addressing: the server answered Response too long"),
    ],
)
async def test_a_server_that_breaks_off_is_a_failed_notification(answers: list[str | None], said: str) -> None:
    async with raw_server(scripted(*answers)) as port:
        log = await log_of_failing(block_for(port))
    assert said in log
    assert f"127.0.0.1:{port}" in log
    assert len(log) < 1_000 and log.isprintable()


async def test_a_port_where_nobody_listens_is_a_failed_notification() -> None:
    async with raw_server(scripted()) as port:
        pass
    log = await log_of_failing(block_for(port))
    assert f"was not sent: 127.0.0.1:{port}, connecting: " in log


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        # The right server, the wrong password.
        (None, "logging in: the server answered 535 5.7.8 Authentication credentials invalid"),
        # A server that repeats what it refuses, in each of the ways it can.
        (f"535 bad password {PASSWORD}!", "535 bad password ********!"),
        (f"535 bad {b64encode(PASSWORD.encode()).decode()}", "535 bad ********"),
        (f"535 bad {b64encode(f'{chr(0)}robot{chr(0)}{PASSWORD}'.encode()).decode()}", "535 bad ********"),
    ],
)
async def test_a_refused_login_never_shows_the_password(reply: str | None, said: str) -> None:
    with SmtpSink(login=("robot", "another"), replies={"AUTH": reply} if reply else None) as sink:
        log = await log_of_failing(block_for(sink, username="robot", password=PASSWORD))
    assert said in log
    assert PASSWORD not in log


async def test_a_login_that_the_server_does_not_offer_is_a_failed_notification() -> None:
    async with raw_server(scripted("220 hi", "250 hi")) as port:
        log = await log_of_failing(block_for(port, username="robot", password=PASSWORD))
    assert "logging in: The SMTP AUTH extension is not supported by this server" in log


async def test_a_login_that_the_server_wants_and_does_not_get_is_a_failed_notification() -> None:
    with SmtpSink(login=("robot", PASSWORD)) as sink:
        assert "530 5.7.0 Authentication required" in await log_of_failing(block_for(sink))


async def test_nothing_is_said_in_the_open_to_a_server_without_starttls() -> None:
    with SmtpSink(login=("robot", PASSWORD)) as sink:
        block = block_for(sink, smtp_type="STARTTLS", username="robot", password=PASSWORD)
        assert "starting TLS: SMTP STARTTLS extension not supported by server" in await log_of_failing(block)
        assert sink.messages == []


async def test_an_international_address_needs_a_server_that_knows_them() -> None:
    with SmtpSink() as sink:
        block = block_for(sink)
        block.recipient = "bäcker@example.com"
        await send(block)
        assert sink.messages[0].recipients == ("bäcker@example.com",)
    async with raw_server(scripted("220 hi", "250 hi")) as port:
        block = block_for(port)
        block.recipient = "bäcker@example.com"
        assert "SMTPUTF8" in await log_of_failing(block)


async def test_even_a_mistake_in_a_program_is_a_failed_notification() -> None:
    with SmtpSink() as sink:
        log = await log_of_failing(block_for(sink), body=None)  # type: ignore[arg-type]
    assert "preparing the mail: TypeError" in log


async def test_a_failure_that_nobody_wants_raised_is_logged() -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    with SmtpSink(replies={"RCPT": "550 5.1.1 no such user"}) as sink:
        block = block_for(sink)
        logger, handler = logging.getLogger("prefect.CampaignEmail"), Keep()
        logger.addHandler(handler)
        try:
            await block.notify("Hello.")
        finally:
            logger.removeHandler(handler)
    (line,) = lines
    assert "the server answered 550 5.1.1 no such user" in line


# --- In time ---------------------------------------------------------------------------------------------------------


def test_the_limit_is_ten_seconds() -> None:
    block = CampaignEmail(credentials=EmailServerCredentials(), sender="a@example.com", recipient="b@example.com")
    assert block._limit_seconds == LIMIT_SECONDS == 10


@pytest.mark.parametrize("smtp_type", ["INSECURE", "STARTTLS", "SSL"])
async def test_a_silent_server_costs_the_limit_and_holds_up_nobody_else(smtp_type: str) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    with SilentServer() as server:
        # The certificates of this machine are loaded once; that is not the server's silence.
        await log_of_failing(block_for(server, smtp_type=smtp_type, limit_seconds=0.05))
        block = block_for(server, smtp_type=smtp_type, limit_seconds=0.4)
        loop = asyncio.get_running_loop()
        ticker, began = loop.create_task(tick()), loop.time()
        log = await log_of_failing(block)
        took = loop.time() - began
        ticker.cancel()
        assert server.connections >= 1
    assert "connecting: no answer within 0.4 seconds" in log
    assert 0.35 < took < LIMIT_SECONDS
    assert ticks > 20


@pytest.mark.parametrize(
    "answers",
    [
        # The greeting itself, the EHLO, the answer to the mail.
        [],
        ["220 hi"],
        ["220 hi", "250 hi", "250 ok", "250 ok", "354 go"],
    ],
)
async def test_a_server_that_dribbles_ends_at_the_limit(answers: list[str]) -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            writer.write(answer.encode() + b"\r\n")
            line = await reader.readline()
            while answer.startswith("354") and line not in (b".\r\n", b""):
                line = await reader.readline()
        while True:
            writer.write(b"2")
            await writer.drain()
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    async with raw_server(dribble) as port:
        began = loop.time()
        log = await log_of_failing(block_for(port, limit_seconds=0.3))
    assert "no answer within 0.3 seconds" in log
    assert ("may or may not" in log) is ("354 go" in answers)
    assert loop.time() - began < LIMIT_SECONDS


async def test_a_refusal_is_not_forgotten_when_the_server_then_falls_silent() -> None:
    async with raw_server(scripted("220 hi", "250 hi", "250 ok", "550 5.1.1 no such user")) as port:
        log = await log_of_failing(block_for(port, limit_seconds=0.3))
    assert "was not sent" in log
    assert "the server answered 550 5.1.1 no such user" in log


@pytest.mark.parametrize(("seconds", "is_sent"), [(89, True), (91, False)])
async def test_an_automation_whose_turn_comes_late_leaves_the_mail_to_a_worker(seconds: int, is_sent: bool) -> None:
    """By then a worker may be at it: it takes over what nothing is heard of."""
    with SmtpSink() as sink:
        block = block_for(sink)
        block._clock = SettableClock(NOON)
        body = RunNotice(state="Failed", received=(NOON - timedelta(seconds=seconds)).isoformat()).dump()
        if is_sent:
            await send(block, body)
        else:
            log = await log_of_failing(block, body)
            assert "is left to a worker: its turn came more than 90 seconds late" in log
        assert len(sink.messages) == is_sent
        await block.send(body)
        assert len(sink.messages) == is_sent + 1, "a worker sends it, however late"


async def test_a_process_that_shuts_down_cancels_the_mail() -> None:
    with SilentServer() as server:
        task = asyncio.create_task(send(block_for(server)))
        assert await asyncio.to_thread(server.wait_for_connection, timeout_seconds=5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# --- What Prefect's server makes of the templates --------------------------------------------------------------------

RUN_ID = UUID("7f3c1c0e-0000-4000-8000-000000000001")
FLOW_ID = UUID("7f3c1c0e-0000-4000-8000-000000000002")
DEPLOYMENT_ID = UUID("7f3c1c0e-0000-4000-8000-000000000003")
NASTY_MESSAGES = [
    'Step "analysis" failed: 503 Service Unavailable\n2 of 4 steps, 20 prospects generated, cost 0.024 USD',
    "<script>alert(1)</script> & 'quotes' \"and\" \\backslashes\\",
    '"]}, "url": "http://evil.example", "x": [{"',
    "{{ flow_run.id }} {% for a in b %} {# comment #}",
    "tab\tnull\x00 escape\x1b bell\x07 line\u2028 paragraph\u2029",
    "backwards \u202egpj.exe",
    "北京 🦊 שלום",
    "x" * 100_000,
    "",
]


def context_of(message: str, *, name: object = "Weekly Restaurant Outreach", known: bool = True) -> dict[str, object]:
    """Return what Prefect hands to a template; with ``known`` false, when its API did not answer it."""
    event = ReceivedEvent(
        occurred=datetime(2026, 3, 1, 9, 0, 5, tzinfo=UTC),
        received=datetime(2026, 3, 1, 9, 0, 6, tzinfo=UTC),
        event="prefect.flow-run.Failed",
        resource={
            "prefect.resource.id": f"prefect.flow-run.{RUN_ID}",
            "prefect.resource.name": "azure-fox",
            "prefect.state-message": message,
            "prefect.state-name": "Failed",
            "prefect.state-type": "FAILED",
        },
        related=[
            {
                "prefect.resource.id": f"prefect.deployment.{DEPLOYMENT_ID}",
                "prefect.resource.role": "deployment",
                "prefect.resource.name": "weekly-restaurant-outreach",
            }
        ],
        id=UUID(int=1),
    )
    if not known:
        return {"event": event, "flow_run": None, "deployment": None}
    run = FlowRunResponse(
        id=RUN_ID,
        name="azure-fox",
        flow_id=FLOW_ID,
        parameters={"campaign": {"name": name}},
        state=State(type=StateType.FAILED, name="Failed", message=message),
    )
    deployment = DeploymentResponse(
        id=DEPLOYMENT_ID, name="weekly-restaurant-outreach", flow_id=FLOW_ID, concurrency_options=None
    )
    return {"event": event, "flow_run": run, "deployment": deployment}


@pytest.mark.parametrize("message", NASTY_MESSAGES, ids=range(len(NASTY_MESSAGES)))
@pytest.mark.parametrize("known", [True, False])
async def test_the_server_renders_json_whatever_an_engine_said(message: str, known: bool) -> None:
    action = SendNotification(block_document_id=UUID(int=2), subject=RUN_ENDED.subject, body=RUN_ENDED.mail)
    context = context_of(message, known=known)
    with temporary_settings({PREFECT_UI_URL: "http://prefect.example.com:4200"}):
        body = await render_user_template(action.body, context)
        subject = await render_user_template(action.subject, context)
    name = "Weekly Restaurant Outreach" if known else "weekly-restaurant-outreach"
    assert RunNotice.parse(body) == RunNotice(
        campaign="weekly-restaurant-outreach",
        campaign_name=name,
        run="azure-fox",
        run_id=str(RUN_ID),
        state="Failed",
        message=message,
        occurred="2026-03-01 09:00:05+00:00",
        url=f"http://prefect.example.com:4200/runs/flow-run/{RUN_ID}" if known else "",
        event=str(UUID(int=1)),
        received="2026-03-01 09:00:06+00:00",
    )
    assert subject == f"Failed: {name} (azure-fox)"


@pytest.mark.parametrize(
    "context",
    [
        # No event, no objects: still a mail.
        {},
        {"event": None, "flow_run": None, "deployment": None},
        # Parameters that somebody edited.
        context_of("m", name=None),
        context_of("m", name=5),
        context_of("m", name={"first": ["<", "}"]}),
        context_of("m", name="n" * 5_000),
        context_of("m", name="</script>{{ x }}"),
    ],
    ids=range(7),
)
async def test_no_context_makes_a_template_fail(context: dict[str, object]) -> None:
    SendNotification(block_document_id=UUID(int=2), subject=RUN_ENDED.subject, body=RUN_ENDED.mail)
    body, subject, slack = [
        await render_user_template(template, context)
        for template in (RUN_ENDED.mail, RUN_ENDED.subject, RUN_ENDED.slack)
    ]
    assert json.loads(body)["kind"] == "campaign-run"
    ops = Address("", "ops", "example.com")
    assert compose(body, subject=subject, sender=ops, recipient=ops, sent_at=datetime.now(UTC)).as_bytes()
    assert len(subject) < 200 and slack


async def test_a_template_shows_no_link_while_the_server_does_not_know_its_own_address() -> None:
    body = await render_user_template(RUN_ENDED.mail, context_of("m"))
    notice = RunNotice.parse(body)
    assert notice is not None and notice.link == ""


async def test_slack_gets_text_that_mentions_and_links_nobody() -> None:
    posted: list[bytes] = []

    async def webhook(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        posted.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()

    message = "Look: <!channel> <@U012345> <http://evil.example|here> a < b & c > d"
    SendNotification(block_document_id=UUID(int=2), body=RUN_ENDED.slack)
    text = await render_user_template(RUN_ENDED.slack, context_of(message))
    async with raw_server(webhook) as port:
        # What Prefect's SlackWebhook block sends by.
        slack = NotifySlack(token_a="T" * 9, token_b="B" * 9, token_c="c" * 24)
        slack.webhook_url = f"http://127.0.0.1:{port}/services"
        assert await asyncio.to_thread(slack.notify, body=text, title="")
    (attachment,) = json.loads(posted[0])["attachments"]
    assert attachment["text"].splitlines() == [
        "Failed: Weekly Restaurant Outreach (azure-fox)",
        "Look: \u2039!channel\u203a \u2039@U012345\u203a \u2039http://evil.example|here\u203a"
        " a \u2039 b &amp; c \u203a d",
    ]
