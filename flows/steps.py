"""One step of a run: its money, its request, and what becomes of both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import Any

from prefect import State, Task, get_run_logger, task
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext

from prefect_campaigns.blocks.store_types import AttemptState, Reservation
from prefect_campaigns.costs import read_cost
from prefect_campaigns.counts import read_counts
from prefect_campaigns.errors import (
    CampaignsError,
    EngineAnswerInvalid,
    EngineAnswerLost,
    EngineError,
    EngineReportedFailure,
    EngineUnreachable,
    InvalidCost,
    SecretsUnavailable,
    SendMayHaveHappened,
    StoreError,
)
from prefect_campaigns.flows.closing import close_attempts, failed_step
from prefect_campaigns.flows.exchange import EngineAnswer, EngineRequest, Progress, call_engine
from prefect_campaigns.flows.lineage import refuse_to_send_again
from prefect_campaigns.flows.progress import reporting
from prefect_campaigns.flows.requests import make_request, secrets_of
from prefect_campaigns.flows.run import SHIELD_SECONDS, CampaignRun
from prefect_campaigns.flows.secrets import look_up_secrets, look_up_what_is_left
from prefect_campaigns.flows.shielding import to_its_end
from prefect_campaigns.models import Step
from prefect_campaigns.money import format_money
from prefect_campaigns.results import StepResult, StepStatus
from prefect_campaigns.versions import request_of

SETTLING_SECONDS = 60.0
"""A reservation outlives its step's timeout by this much: time to write down what it came to."""

MAY_HAVE_GONE_OUT = "mails may have gone out; ask the engine before sending again"

UNANSWERED = (AttemptState.SENT, AttemptState.UNCONFIRMED)


def _cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    # By the step's name, as its record: whoever edits a run's parameters may put another step in its place.
    return f"{context.task_run.flow_run_id}-{parameters['run'].campaign.steps[parameters['index']].name}"


@task(persist_result=True, result_serializer="json", cache_key_fn=_cache_key)
async def run_step(run: CampaignRun, index: int) -> dict[str, Any]:
    """Do one step of a run, as do_step says; called again for each native retry."""
    # Short, since Prefect reads the source of a task's function, word by word, whenever a task is made of it.
    return await do_step(run, index)


async def do_step(run: CampaignRun, index: int) -> dict[str, Any]:
    """Do one step of a run and return its record, as JSON has it.

    Raises:
        EngineError: the exchange did not end in a result.
        SendMayHaveHappened: an earlier request of a sending step was never answered, or another run has sent with the
            same results.
        BudgetRefused: the step's estimate would pass a limit.
        MissingReference: a reference finds nothing. Nothing was reserved or sent.
        MissingSecret, SecretsUnavailable: a secret could not be had. Nothing was reserved or sent.
    """
    step = run.campaign.steps[index]
    recorded = run.steps[index]
    if recorded.status is StepStatus.COMPLETED:
        # Prefect's own result may be gone, or on another machine; the run's record knows it too.
        return recorded.model_dump(mode="json")
    # What an earlier attempt was answered must be booked before it counts as unanswered.
    await run.catch_up()
    earlier = await _close_earlier_attempts(run, step)
    await refuse_to_send_again(run, step)
    request = await _request(run, step)
    reservation = await run.store.reserve(
        run.lease,
        step=step.name,
        attempt=len(earlier) + 1,
        estimated_cost=step.estimated_cost,
        hold_seconds=step.timeout_seconds + SETTLING_SECONDS,
    )
    try:
        recorded = recorded.model_copy(
            update={
                "status": StepStatus.RUNNING,
                "attempts": reservation.attempt,
                "started_at": _started_at(recorded, run),
                "completed_at": None,
                "error": None,
                "sent_as": request_of(step) if step.sends_something else None,
            }
        )
        reservation = await run.mark_sent(recorded, reservation)
    except BaseException:
        # Cancelled or failed before the request left: whatever happened, the money was not spent.
        await run.note(partial(run.store.release, run.lease, reservation), reservation)
        raise
    logger = get_run_logger()
    async with reporting(campaign_key=run.campaign.slug, step=step.name, logger=logger) as reporter:
        answer, cost = await _exchange(run, step, request, reservation, on_progress=reporter.report)
        completed = recorded.model_copy(
            update={
                "status": StepStatus.COMPLETED,
                "completed_at": run.clock.now(),
                "cost": _booked(earlier) + (cost or Decimal(0)),
                "counts": read_counts(step.engine, step.sends_something, answer.result),
                "result": answer.result,
                "warnings": (
                    *recorded.warnings,
                    *answer.warnings,
                    *(() if cost is not None else ("engine reported no cost",)),
                ),
            }
        )
        # One act: a crash in between would leave a paid step that looks undone, and a retry would send it again.
        await to_its_end(run.settle(completed, reservation, cost or Decimal(0)), seconds=SHIELD_SECONDS)
    logger.info("%s: cost %s", step.name, "not reported" if cost is None else f"{format_money(cost)} USD")
    return completed.model_dump(mode="json")


def _started_at(recorded: StepResult, run: CampaignRun) -> datetime:
    """Return when this execution of the run began the step: the pause before a retry of the run is no work."""
    begun = recorded.started_at
    return begun if begun is not None and begun >= run.executed_since else run.clock.now()


async def _request(run: CampaignRun, step: Step) -> EngineRequest:
    secrets = await look_up_secrets(secrets_of(step))
    request = make_request(
        run.campaign, step, results=run.results, secrets=secrets, idempotency_key=run.idempotency_key(step)
    )
    # One engine may tell what another was sent, or it itself by an earlier step.
    run.secrets.update(secrets.values())
    await _learn_earlier_secrets(run)
    return replace(request, secrets=tuple(run.secrets))


async def _learn_earlier_secrets(run: CampaignRun) -> None:
    """Look up, once, what was sent before this execution began: by an earlier one, or by the run with the results."""
    if run.knows_earlier_secrets:
        return
    steps = zip(run.campaign.steps, run.steps, strict=True)
    begun = [step for step, recorded in steps if recorded.status is not StepStatus.PENDING]
    run.secrets.update((await look_up_what_is_left(chain.from_iterable(map(secrets_of, begun)))).values())
    run.knows_earlier_secrets = True


async def _close_earlier_attempts(run: CampaignRun, step: Step) -> list[Reservation]:
    """Book or release what an execution of this run that died has left open, and see that sending is safe."""
    if run.is_first_try(step):
        return []
    attempts = await close_attempts(run.store, run.lease, step.name)
    if must_not_repeat(step) and any(attempt.state in UNANSWERED for attempt in attempts):
        raise SendMayHaveHappened(f"an earlier request was never answered: {MAY_HAVE_GONE_OUT}")
    return attempts


def must_not_repeat(step: Step) -> bool:
    """Whether the step sends, to an engine that is not known to honour Idempotency-Key."""
    return step.sends_something and not step.retry_policy.ambiguous


async def _exchange(
    run: CampaignRun,
    step: Step,
    request: EngineRequest,
    reservation: Reservation,
    *,
    on_progress: Callable[[Progress], Awaitable[None]],
) -> tuple[EngineAnswer, Decimal | None]:
    """Make the request; where it ends without a result, settle its reservation."""
    store, lease = run.store, run.lease
    try:
        answer = await call_engine(run.http, request, on_progress=on_progress, limits=run.limits)
        cost = read_cost(answer.result, cost_path=step.cost_path)
    except asyncio.CancelledError:
        # The step's timeout, or somebody cancelled the run: the engine may go on working, and charging.
        try:
            await run.note(partial(store.book_unconfirmed, lease, reservation), reservation)
        except StoreError as error:
            # It is booked when it expires; that the step was cancelled must not be lost over it.
            get_run_logger().error("%s: its money could not be booked: %s", step.name, error)
        raise
    except EngineUnreachable:
        await run.note(partial(store.release, lease, reservation), reservation)
        raise
    except (EngineAnswerLost, EngineAnswerInvalid) as error:
        # An answer that cannot be read says neither what it cost nor what was done.
        if isinstance(error, InvalidCost):
            _warn_of_cost(run, step, reservation, error)
        await run.note(partial(store.book_unconfirmed, lease, reservation), reservation)
        raise
    except EngineError as error:
        if error.ambiguous and step.sends_something:
            # Booked as unanswered, so that nothing sends it again.
            await run.note(partial(store.book_unconfirmed, lease, reservation), reservation)
        else:
            await _settle_failure(run, step, reservation, error)
        raise
    return answer, cost


async def _settle_failure(run: CampaignRun, step: Step, reservation: Reservation, error: EngineError) -> None:
    """Book what a failed request says it has cost; its estimate where that is unreadable, or nobody can know it."""
    try:
        cost = read_cost(error.payload, cost_path=step.cost_path)
    except InvalidCost as nonsense:
        _warn_of_cost(run, step, reservation, nonsense)
        cost, known = None, False
    else:
        known = cost is not None or not error.ambiguous
    if known:
        await run.settle_failure(reservation, cost or Decimal(0))
    else:
        await run.note(partial(run.store.book_unconfirmed, run.lease, reservation), reservation)


def _warn_of_cost(run: CampaignRun, step: Step, reservation: Reservation, error: InvalidCost) -> None:
    """Let the step's record say what came as a cost, and what is booked for it."""
    amount = f"{format_money(reservation.estimate)} USD"
    booked = f"the estimate of {amount}" if reservation.estimate else f"{amount}, for want of an estimate"
    run.warn(step, f"{error}; booked at {booked}, unconfirmed")


def _booked(attempts: Iterable[Reservation]) -> Decimal:
    """Return what the attempts are booked at, less those that a later answer with the same key speaks for."""
    return sum(
        (attempt.booked or Decimal(0) for attempt in attempts if attempt.state is AttemptState.SETTLED),
        Decimal(0),
    )


def _is_worth_retrying(step: Step, error: Any) -> bool:
    if isinstance(error, TimeoutError):
        return not must_not_repeat(step)
    if isinstance(error, SecretsUnavailable):
        return True
    if not isinstance(error, EngineError) or not error.retryable:
        return False
    if isinstance(error, EngineReportedFailure) and must_not_repeat(step):
        # The engine worked on it and failed half-way: what it had sent by then it would send again.
        return False
    return not (error.ambiguous and must_not_repeat(step))


def task_for(step: Step) -> Task[..., Any]:
    """Return the Prefect task of one step: its name, its retries, its timeout.

    It carries no tags: for each tag Prefect asks its server for a concurrency slot before every step, and a server on
    SQLite answers many of those with 503.
    """
    policy = step.retry_policy
    # Prefect's own jitter would also shorten a delay, and one that the engine asked for with it.
    delays = [delay * random.uniform(1, 1 + policy.jitter) for delay in policy.delays_seconds()]  # noqa: S311 - no secret

    async def retry_condition(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
        error = state.data if isinstance(state.data, BaseException) else None
        if not _is_worth_retrying(step, error):
            return False
        # Prefect reads the delay after this, and this task object belongs to this one run of this one step.
        asked = error.retry_after_seconds if isinstance(error, EngineError) else None
        task.retry_delay_seconds = delays if asked is None else [asked] * len(delays)
        return True

    return run_step.with_options(
        name=step.name,
        task_run_name=lambda: step.name,
        description=f"{step.method} {step.endpoint}",
        retries=policy.attempts,
        retry_delay_seconds=delays,
        retry_condition_fn=retry_condition,
        timeout_seconds=step.timeout_seconds,
    )


def failure_message(step: Step, error: object) -> str:
    """Say in one line why a step failed, from the exception that its task ended with."""
    if isinstance(error, TimeoutError):
        text, ambiguous = f"no whole answer within {step.timeout_seconds:g} seconds", True
    else:
        text = str(error) if isinstance(error, CampaignsError) else f"{type(error).__name__}: {error}"
        ambiguous = isinstance(error, EngineError) and error.ambiguous
    if ambiguous and step.sends_something:
        text = f"{text}; {MAY_HAVE_GONE_OUT}"
    return " ".join(text.split())


async def failed_result(run: CampaignRun, index: int, message: str) -> StepResult:
    """Write down that a step failed, with what it has cost all the same."""
    attempts = await run.store.attempts(run.run_id, run.campaign.steps[index].name)
    recorded = run.steps[index]
    # One that nobody has begun took no time.
    began = {"started_at": recorded.started_at and _started_at(recorded, run)}
    failed = failed_step(recorded.model_copy(update=began), attempts, message, at=run.clock.now())
    await run.save(failed)
    return failed
