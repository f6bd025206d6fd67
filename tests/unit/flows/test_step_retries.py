"""Which failures of a step are worth another request, and after how long."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.states import Failed

from prefect_campaigns.errors import (
    BudgetRefused,
    EngineAnswerInvalid,
    EngineAnswerLost,
    EngineRefused,
    EngineReportedFailure,
    EngineUnreachable,
    LeaseLost,
    MissingReference,
    MissingSecret,
    SecretsUnavailable,
    SendMayHaveHappened,
)
from prefect_campaigns.flows.steps import MAY_HAVE_GONE_OUT, failure_message, task_for
from prefect_campaigns.models import Step


def step(**written: Any) -> Step:
    return Step.model_validate(
        {
            "name": "a step",
            "engine": "prospecting",
            "endpoint": "http://127.0.0.1:9/api/prospect",
            "retry": {"attempts": 3, "delay": 5000, "backoff": "exponential"},
            **written,
        }
    )


SEARCH = step()
SEND = step(engine="sender")
KEYED_SEND = step(engine="sender", retry={"attempts": 3, "ambiguous": True})


async def is_retried(one: Step, error: BaseException) -> bool:
    task = task_for(one)
    assert task.retry_condition_fn is not None
    return await task.retry_condition_fn(task, None, Failed(data=error))


@pytest.mark.parametrize(
    ("error", "search", "send", "keyed_send"),
    [
        # The request never left.
        (EngineUnreachable("refused"), True, True, True),
        (SecretsUnavailable("Prefect is away"), True, True, True),
        (MissingSecret("nowhere"), False, False, False),
        # It left, and no answer was read.
        (EngineAnswerLost("reset"), True, False, True),
        (TimeoutError(), True, False, True),
        # An answer with a status is never ambiguous.
        (EngineRefused("busy", status_code=503), True, True, True),
        (EngineRefused("slow down", status_code=429), True, True, True),
        (EngineRefused("early", status_code=425), True, True, True),
        (EngineRefused("timeout", status_code=408), True, True, True),
        (EngineRefused("wrong", status_code=400), False, False, False),
        (EngineRefused("gone", status_code=404), False, False, False),
        # The engine tried and failed half-way: what it had sent it would send again.
        (EngineReportedFailure("quota"), True, False, True),
        (EngineReportedFailure("bounced, then silence", ambiguous=True), True, False, True),
        # The work was done and is paid for; asking again would pay again.
        (EngineAnswerInvalid("no JSON"), False, False, False),
        # Not the engine's doing.
        (SendMayHaveHappened(), False, False, False),
        (MissingReference("steps.x.y"), False, False, False),
        (LeaseLost(), False, False, False),
        (ValueError("a bug"), False, False, False),
    ],
)
async def test_what_is_worth_retrying(error: Exception, search: bool, send: bool, keyed_send: bool) -> None:
    assert [await is_retried(one, error) for one in (SEARCH, SEND, KEYED_SEND)] == [search, send, keyed_send]


def test_a_refused_reservation_is_no_engine_error() -> None:
    assert not issubclass(BudgetRefused, EngineRefused)


async def test_what_the_engine_asks_for_overrules_the_computed_delay_once() -> None:
    task = task_for(SEARCH)
    assert task.retry_delay_seconds == [5, 10, 20]
    asked = Failed(data=EngineRefused("slow down", status_code=429, retry_after_seconds=2.0))
    await task.retry_condition_fn(task, None, asked)
    assert task.retry_delay_seconds == [2, 2, 2]
    await task.retry_condition_fn(task, None, Failed(data=EngineRefused("busy", status_code=503)))
    assert task.retry_delay_seconds == [5, 10, 20]


def test_a_step_becomes_a_task_of_its_own_name_retries_and_timeout() -> None:
    task = task_for(step(name="find {people}", timeout=1500))
    assert (task.name, task.retries, task.timeout_seconds) == ("find {people}", 3, 1.5)
    assert task.persist_result


@pytest.mark.parametrize(
    ("one", "error", "expected"),
    [
        (SEARCH, TimeoutError(), "no whole answer within 300 seconds"),
        (SEND, TimeoutError(), f"no whole answer within 600 seconds; {MAY_HAVE_GONE_OUT}"),
        (SEND, EngineAnswerLost("connection reset"), f"connection reset; {MAY_HAVE_GONE_OUT}"),
        (SEND, EngineRefused("answered 400: no batch", status_code=400), "answered 400: no batch"),
        # One line, whatever the engine says.
        (SEARCH, EngineReportedFailure("first\nsecond\r\nthird"), "first second third"),
        # What is not ours is named by its kind.
        (SEARCH, KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_the_message_says_why_in_one_line(one: Step, error: Exception, expected: str) -> None:
    assert failure_message(one, error) == expected


def test_jitter_stretches_a_delay_and_never_shortens_it() -> None:
    retry = {"attempts": 50, "delay": 1000, "backoff": "fixed", "jitter": 0.5}
    delays = task_for(step(retry=retry)).retry_delay_seconds
    assert all(1 <= delay <= 1.5 for delay in delays) and len(set(delays)) > 1
