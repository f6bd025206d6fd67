"""What one run does differently: which params may be changed, and with whose results it may begin later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from campaign_files import campaign, campaign_json
from spending import skipped_run

from prefect_campaigns.blocks.sqlite.store import SqliteStore
from prefect_campaigns.blocks.store_types import Lease
from prefect_campaigns.deployments.driving.run_changes import RUNS_LOOKED_AT, begin_at, change_params, typed
from prefect_campaigns.errors import InvalidCampaign, InvalidChange, SendMayHaveHappened, WrongState
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus
from prefect_campaigns.versions import request_of

URL = "http://127.0.0.1:9"
STEPS = ("prospecting", "analysis", "outreach", "sending")
PARAMS = {"count": 5, "filters": {"city": "Austin", "open": True}, "cities": ["Austin", "Boston"], "note": "a=b"}


def written() -> dict[str, Any]:
    return campaign_json("Changed", URL, steps={"prospecting": {"params": PARAMS}})


# The change, where it lands, and what stands there then.
CHANGES = [
    ("steps.prospecting.count=7", ["count"], 7),
    # Deeper, into objects and lists.
    ("steps.prospecting.filters.city=Dallas", ["filters", "city"], "Dallas"),
    ("steps.prospecting.cities.1=El Paso", ["cities", 1], "El Paso"),
    # JSON of every kind.
    ("steps.prospecting.filters.open=false", ["filters", "open"], False),
    ('steps.prospecting.cities=["Waco"]', ["cities"], ["Waco"]),
    ("steps.prospecting.note=null", ["note"], None),
    ('steps.prospecting.note="7"', ["note"], "7"),
    # What is no JSON is the text, with all that stands after the first sign.
    ("steps.prospecting.note=c=d", ["note"], "c=d"),
    ("steps.prospecting.note=NaN", ["note"], "NaN"),
    ("steps.prospecting.note=", ["note"], ""),
    (" steps.prospecting.count = 9", ["count"], 9),
]


@pytest.mark.parametrize(("change", "path", "value"), CHANGES)
def test_a_change_lands_where_it_says_and_nowhere_else(change: str, path: list[Any], value: Any) -> None:
    before = written()
    after = change_params(before, typed([change]))
    *outer, last = path
    place, untouched = after["steps"][0]["params"], before["steps"][0]["params"]
    for key in outer:
        place, untouched = place[key], untouched[key]
    assert place[last] == value and untouched[last] != value, "the original stays as it was"
    place[last] = untouched[last]
    assert after == before


# The change, and what is said of it.
REFUSED = [
    ("steps.prospecting.count", "there is no = in it; allowed is steps.NAME.KEY=VALUE"),
    ("budget.daily=1000", '"budget" came; allowed is steps.NAME.KEY=VALUE'),
    ("steps.prospektion.count=5", 'no step is named "prospektion"; did you mean "prospecting"?'),
    ("steps.prospecting.cuont=5", 'no "cuont"; did you mean "count"? there is "count", "filters", "cities" and "note"'),
    ("steps.prospecting.filters.town=5", '"filters" of the params of step "prospecting" has no "town"'),
    ("steps.prospecting.cities.2=5", 'has no "2"; there is 0 to 1'),
    ("steps.prospecting.count.more=5", "is no object, and has no"),
    ("steps.prospecting=5", 'which of the params of step "prospecting"?'),
    ("steps.prospecting..count=5", 'which of the params of step "prospecting"?'),
    # Only params: not where the request goes, nor how long it may take.
    ("steps.prospecting.endpoint=http://evil.example", 'the params of step "prospecting" has no "endpoint"'),
    # What the loader would refuse.
    ("steps.prospecting.note={{ steps.sending.x }}", "does not run before this one"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_change_that_cannot_be_says_why(change: str, said: str) -> None:
    with pytest.raises(InvalidChange) as refused:
        change_params(written(), typed([change]))
    (fault,) = refused.value.faults
    assert fault.startswith("--param") and said in fault, fault


@pytest.mark.parametrize(
    "steps",
    [5, ["a"], {"a": 1}, [{"name": 5}], [{"engine": "e"}]],
    ids=["number", "text", "object", "name", "nameless"],
)
def test_what_a_person_has_edited_into_no_campaign_is_said_before_anything_is_changed(steps: Any) -> None:
    with pytest.raises(InvalidCampaign, match=r"^the run's parameters: /steps"):
        change_params({"name": "Edited", "steps": steps}, typed(["steps.a.count=1"]))


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(InvalidChange) as refused:
        texts = ["x", "steps.nobody.x=1", "steps.prospecting.count=1", "steps.prospecting.count=2"]
        change_params(written(), typed(texts))
    assert len(str(refused.value).splitlines()) == 3
    assert 'it comes twice, as "1" and as "2"' in str(refused.value)


def test_the_name_of_a_step_may_have_dots_and_spaces_in_it() -> None:
    steps = [{"name": name, "engine": "x", "endpoint": URL, "params": {"b": 1, "c": 1}} for name in ("a", "a.b c")]
    after = change_params({"name": "Dots", "steps": steps}, typed(["steps.a.b c.c=2", "steps.a.b=3"]))
    assert [step["params"] for step in after["steps"]] == [{"b": 3, "c": 1}, {"b": 1, "c": 2}]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "campaigns.db") as store:
        await store.save_campaign(campaign("Later", URL))
        yield store


async def record_run(
    store: SqliteStore,
    name: str,
    *statuses: str,
    results: str = "r",
    sent: bool = False,
    sent_as: str | None = None,
    ends: bool = True,
) -> str:
    """Write down a run: c completed, f failed, s skipped with a result taken over, - pending."""
    kinds = {
        "c": StepStatus.COMPLETED,
        "f": StepStatus.FAILED,
        "s": StepStatus.SKIPPED,
        "-": StepStatus.PENDING,
    }
    number = len(await store.list_runs("later"))
    lease = await store.acquire_lease(
        "later", run_id=name, run_name=name, holder=name, ttl_seconds=60, waiting_since=datetime.now(UTC)
    )
    assert isinstance(lease, Lease)
    steps = tuple(
        StepResult(
            name=step,
            engine="x",
            position=position,
            status=kinds[kind],
            result={"from": results} if kind in "cs" else None,
            sent_as=sent_as if step == "sending" else None,
        )
        for position, (step, kind) in enumerate(zip(STEPS, statuses, strict=True))
    )
    report = RunReport(
        run_id=name,
        run_name=name,
        campaign_key="later",
        campaign_name="Later",
        status=RunStatus.RUNNING,
        started_at=datetime(2026, 5, 13, tzinfo=UTC) + timedelta(hours=number),
        steps=steps,
    )
    await store.start_run(lease, report)
    for step in steps:
        await store.save_step(lease, step)
    if sent:
        held = await store.reserve(lease, step="sending", attempt=1, estimated_cost=None, hold_seconds=60)
        await store.mark_sent(lease, held)
    if ends:
        await store.finish_run(lease, report.model_copy(update={"status": RunStatus.FAILED}))
    await store.release_lease(lease)
    return name


async def begin(store: SqliteStore, step: str = "sending", *, send_again: bool = False) -> str | None:
    parameters, source = await begin_at(store, campaign("Later", URL), step, send_again=send_again)
    again = {"send_again": True} if send_again else {}
    assert not parameters or (source and parameters == {"from_step": step, "results_of": source.run_id, **again})
    return parameters.get("results_of")


async def test_it_takes_over_the_results_of_the_newest_run_that_has_them_all(store: SqliteStore) -> None:
    await record_run(store, "older", *"cccf")
    await record_run(store, "newer", *"cc--")
    assert await begin(store, "sending") == "older"
    assert await begin(store, "outreach") == "newer"
    assert await begin(store, "prospecting") is None, "at the first step it is a run like any"


async def test_without_a_run_that_has_the_results_it_is_refused(store: SqliteStore) -> None:
    await record_run(store, "broke-off", *"c---")
    with pytest.raises(WrongState, match="has completed all steps before"):
        await begin(store, "outreach")
    with pytest.raises(InvalidChange, match=r'--from: no step is named "sendign"; did you mean "sending"\?'):
        await begin(store, "sendign")
    await record_run(store, "going-on", *"ccc-", ends=False)
    with pytest.raises(WrongState, match="run going-on, whose results it would take, has not ended"):
        await begin(store)


async def test_runs_that_did_no_step_are_not_counted_among_those_looked_through(store: SqliteStore) -> None:
    await record_run(store, "has-them", *"cccf")
    for number in range(RUNS_LOOKED_AT):
        await store.record_skipped_run(skipped_run("later", number))
    for number in range(3):
        await record_run(store, f"broke-off-{number}", *"----")
    assert await begin(store) == "has-them"


async def test_what_was_sent_is_not_sent_again_unless_somebody_says_so(store: SqliteStore) -> None:
    await record_run(store, "sent-it", *"cccc")
    for step in ("analysis", "sending"):
        with pytest.raises(SendMayHaveHappened, match=r'step "sending" has sent in run sent-it .* add --send-again'):
            await begin(store, step)
    assert await begin(store, send_again=True) == "sent-it"


async def test_what_was_sent_is_not_sent_again_by_a_step_that_may_be_the_same(store: SqliteStore) -> None:
    await record_run(store, "sent-it", *"cccc", sent_as=request_of(campaign("Later", URL).steps[-1]))
    for name, text, what in [
        ("mailing", "Hello", r'step "sending" has sent in run sent-it .* step "mailing" might send the same again'),
        ("sending", "Goodbye", r'step "sending" has sent in run sent-it .* and would send again'),
    ]:
        changed = campaign_json("Later", URL, steps={"sending": {"name": name, "params": {"text": text}}})
        with pytest.raises(SendMayHaveHappened, match=what):
            await begin_at(store, Campaign.model_validate(changed), name, send_again=False)
    # Its name means another step by now.
    *before, sending = campaign_json("Later", URL)["steps"]
    reused = [*before, {**sending, "sends": False}, {**sending, "name": "mailing"}]
    with pytest.raises(SendMayHaveHappened, match='step "mailing" might send the same again'):
        await begin_at(store, Campaign.model_validate({"name": "Later", "steps": reused}), "mailing", send_again=False)


async def test_a_step_that_sends_beside_one_that_has_sent_is_another(store: SqliteStore) -> None:
    await record_run(store, "sent-it", *"cccc", sent_as=request_of(campaign("Later", URL).steps[-1]))
    *before, sending = campaign_json("Later", URL)["steps"]
    both = Campaign.model_validate({"name": "Later", "steps": [*before, sending, {**sending, "name": "reminder"}]})
    parameters, _ = await begin_at(store, both, "reminder", send_again=False)
    assert parameters["results_of"] == "sent-it"


async def test_a_request_that_left_may_have_sent(store: SqliteStore) -> None:
    await record_run(store, "lost", *"cccf", sent=True)
    with pytest.raises(SendMayHaveHappened, match='step "sending" may have sent in run lost'):
        await begin(store)


async def test_what_went_on_with_the_same_results_counts_and_what_has_others_does_not(store: SqliteStore) -> None:
    await record_run(store, "first", *"cccc", results="old")
    await record_run(store, "taken-over", *"sssf", results="old")
    with pytest.raises(SendMayHaveHappened, match="has sent in run first"):
        await begin(store)
    await record_run(store, "fresh", *"cccf", results="new")
    assert await begin(store) == "fresh"
