"""The flow behind every campaign's deployment."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

import anyio
import httpx
from prefect import State, flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Pause, PrefectException
from prefect.states import Cancelled, Failed
from pydantic import Field

from prefect_campaigns.blocks.journal import Journal
from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.budget import BudgetStatus, describe_limits, first_moment_without
from prefect_campaigns.clock import current_clock
from prefect_campaigns.errors import (
    ApprovalExpired,
    BudgetRefused,
    CampaignsError,
    LeaseLost,
    ServerError,
    StoreUnavailable,
)
from prefect_campaigns.flows import leaving
from prefect_campaigns.flows.alerts import tell_alerts
from prefect_campaigns.flows.approval import NOT_APPROVED, Resumption, read_resumption, require_approval
from prefect_campaigns.flows.breaker import Breaker, told_once
from prefect_campaigns.flows.budget import check_budget, per_lead_excess, reach_store
from prefect_campaigns.flows.closing import failure_in_words
from prefect_campaigns.flows.control import current_control
from prefect_campaigns.flows.ending import (
    another_is_going,
    break_off,
    end,
    finish,
    over_budget,
    skip,
    unrecorded,
    was_cancelled_by_a_person,
)
from prefect_campaigns.flows.exchange import ExchangeLimits, new_client
from prefect_campaigns.flows.lease import Overlapping, keeping, show_running, take_turn
from prefect_campaigns.flows.missed import wait_for_its_day, why_missed
from prefect_campaigns.flows.paused_deployment import CAMPAIGN_FLOW_NAME
from prefect_campaigns.flows.resuming import MOMENT, resume_after_budget
from prefect_campaigns.flows.run import CampaignRun, StartAt, patiently
from prefect_campaigns.flows.shielding import stay_alive, to_its_end
from prefect_campaigns.flows.steps import failed_result, failure_message, must_not_repeat, task_for
from prefect_campaigns.flows.stopping import describe
from prefect_campaigns.flows.versions import refuse_another, take_version
from prefect_campaigns.loader import validate_object
from prefect_campaigns.models import Campaign
from prefect_campaigns.results import RunStatus, StepResult, StepStatus

ENTRYPOINT = "prefect_campaigns.flows.campaign.run_campaign"
"""Where deployments find the flow. Dotted: Prefect takes the colon form for a file."""

FLOW_NAME = CAMPAIGN_FLOW_NAME

STORE_OUTAGES = 3
"""How often a step is begun again because the store went away in the middle of it."""

BREAK_OFF_SECONDS = 25.0
"""How long it may take in all to write down its end: less than a worker that stops waits for it."""

CampaignParameter = Annotated[dict[str, Any], Field(json_schema_extra={"required": ["name", "steps"]})]
"""A campaign as Prefect sees it: an object, of which the flow says in our words what is wrong.

A model here would be in the parameters' JSON Schema with all its parts. A Prefect server checks the schema whenever
somebody sends one, and the parameters of each run by it, which was 0.1 s of its CPU each time. And Prefect logs all
parameters, with whatever is secret in them, when a model does not take one.
"""


# Its tasks' results are kept, and never its own: a run whose result is kept cannot be retried.
@flow(name=FLOW_NAME, persist_result=False)
async def run_campaign(
    campaign: CampaignParameter,
    version: str | None = None,
    from_step: str | None = None,
    results_of: str | None = None,
    send_again: bool = False,
) -> State[Any]:
    """Run a campaign once: wait for its turn, look at its budget, do its steps, say what came of it.

    What it may spend is read from the store by the campaign's key, never from the parameter.

    The run ends as Completed, Partial (type COMPLETED: a step failed and the campaign went on), Failed, EngineDown or
    LeftAlone (type FAILED: an engine by which runs have failed is left alone for a while),
    BudgetExceeded (type CANCELLED; a limit pauses the campaign), Paused (type CANCELLED: the budget has paused it
    already), NotApproved (type CANCELLED: nobody approved a step in time), Stopped (type CANCELLED: the emergency stop
    stands) or Skipped (type COMPLETED: another run of the campaign was going, or its time was missed). Before a step
    that needs an approval it is Suspended.

    Args:
        campaign: what to do, as it was written.
        version: the version of the file that the campaign is; another one, or none, says that a person edited it.
        from_step: the step to begin at, with the results that the steps before it had in the flow run results_of.
        results_of: that flow run's id.
        send_again: whether it is to send what a run with the same results has sent already.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise CampaignsError("a campaign runs as a Prefect flow run only")
    start_at = (from_step, results_of)
    flow = _conduct(campaign, version, context.flow_run, start_at, send_again=send_again)
    control = current_control()
    return await (flow if control is None else control.conduct(flow))


async def _conduct(
    campaign: dict[str, Any],
    version: str | None,
    flow_run: FlowRun,
    start_at: tuple[str | None, str | None],
    *,
    send_again: bool,
) -> State[Any]:
    logger = get_run_logger()
    settings = load_settings()
    try:
        wanted = validate_object(campaign, source="campaign")
        async with AsyncExitStack() as stack:
            try:
                store = await stack.enter_async_context(open_store(settings))
                await store.get_campaign(wanted.slug)
            except StoreUnavailable:
                # From here on as a task, for Prefect to try again; what has begun waits for longer.
                reach = partial(reach_store, stack, settings, wanted.slug)
                has_begun = flow_run.run_count > 1
                store = await (patiently(reach, logger=logger) if has_begun else reach())
            await refuse_another(wanted, version, flow_run)
            begin = _start_at(*start_at)
            journal = Journal(settings.journal_folder)
            limits = ExchangeLimits(max_answer_bytes=settings.max_answer_bytes, allowed_hosts=settings.allowed_hosts)
            return await _run(store, wanted, version, flow_run, journal, begin, limits, send_again=send_again)
    except CampaignsError as error:
        # Whoever was cut off from the books may have been given up for lost.
        is_cut_off = isinstance(error, LeaseLost | StoreUnavailable)
        if is_cut_off and (state := await leaving.taken_over_at_last(flow_run)):
            logger.error("%s; the run has been given up for lost, and this execution of it ends here", error)
            # As a run ends that is suspended: the engine writes down nothing more.
            raise Pause(state=state) from None
        # Said in the state, in words, rather than as a traceback.
        logger.error("%s", error)
        return Failed(message=f"{type(error).__name__}: {error}")
    except asyncio.CancelledError:
        if leaving.is_over():
            is_cancelled = await to_its_end(leaving.hand_back_at_the_end(flow_run.id), seconds=BREAK_OFF_SECONDS)
        else:
            is_cancelled = await was_cancelled_by_a_person(flow_run)
        if not is_cancelled:
            raise
        stay_alive()
        return Cancelled(message="The run was cancelled")


def _start_at(from_step: str | None, results_of: str | None) -> StartAt | None:
    if (from_step is None) != (results_of is None):
        raise CampaignsError("from_step and results_of go together: where to begin, and which run has the results")
    return StartAt(step=from_step, results_of=results_of) if from_step and results_of else None


async def _run(
    store: CampaignStore,
    campaign: Campaign,
    version: str | None,
    flow_run: FlowRun,
    journal: Journal,
    start_at: StartAt | None,
    limits: ExchangeLimits,
    *,
    send_again: bool,
) -> State[Any]:
    clock, logger = current_clock(), get_run_logger()
    await wait_for_its_day(campaign, flow_run, now=clock.now())
    if why := await patiently(lambda: why_missed(store, campaign.slug, flow_run, now=clock.now()), logger=logger):
        return await skip(store, campaign, flow_run, why, at=clock.now())
    turn = await take_turn(store, campaign, flow_run, clock=clock, logger=logger)
    if isinstance(turn, Overlapping):
        return await skip(store, campaign, flow_run, another_is_going(turn.held), at=clock.now())
    async with keeping(store, turn.lease, logger=logger), new_client() as http:
        if turn.waited:
            await show_running(flow_run, logger=logger)
        take_own_version = partial(take_version, store, campaign, version, flow_run, logger=logger)
        run = CampaignRun(
            campaign=await patiently(take_own_version, logger=logger),
            flow_run=flow_run,
            store=store,
            lease=turn.lease,
            http=http,
            limits=limits,
            clock=clock,
            journal=journal,
            logger=logger,
            start_at=start_at,
            send_again=send_again,
        )
        await run.patiently(run.begin)
        try:
            return await _gate_and_steps(run)
        except asyncio.CancelledError:
            try:
                state = await to_its_end(break_off(run), seconds=BREAK_OFF_SECONDS)
            except (StoreUnavailable, TimeoutError) as error:
                state = unrecorded(run, error)
            stay_alive()
            return state
        except ApprovalExpired as error:
            return await finish(run, RunStatus.ABORTED, State(type=StateType.CANCELLED, name=NOT_APPROVED), str(error))
        except CampaignsError as error:
            return await finish(run, RunStatus.FAILED, Failed(), f"{type(error).__name__}: {error}")
        except Exception as error:
            await finish(run, RunStatus.FAILED, Failed(), f"{type(error).__name__}: {error}")
            raise


async def _gate_and_steps(run: CampaignRun) -> State[Any]:
    if stop := await run.patiently(run.store.read_stop):
        return await finish(run, RunStatus.ABORTED, State(type=StateType.CANCELLED, name="Stopped"), describe(stop))
    breaker = Breaker(run, load_settings())
    if trouble := await breaker.open():
        return await finish(run, RunStatus.FAILED, await breaker.state(trouble), *told_once(trouble))
    await run.patiently(lambda: _lift_pause(run))
    look = partial(check_budget, run.store, run.campaign.slug)
    status = await run.patiently(look)
    if await _is_about_to_reset(status):
        await run.patiently(lambda: _lift_pause(run))
        status = await run.patiently(look)
    await run.patiently(lambda: tell_alerts(run, status))
    resumption = await _resumption_of(run)
    if status.reached and resumption is None:
        return await over_budget(run, status.reached, describe_limits(status.reached), [])
    failures: list[StepResult] = []
    asked = next((at for at, step in enumerate(run.campaign.steps) if resumption and step.name == resumption.step), 0)
    for index, step in enumerate(run.campaign.steps):
        recorded = run.steps[index]
        if recorded.status is StepStatus.SKIPPED:
            continue
        if index < asked and recorded.status is StepStatus.FAILED:
            # The run went on from it before it was suspended; a later one failed before a retry.
            failures += [recorded] if step.on_failure == "continue" else []
            continue
        if recorded.status is not StepStatus.COMPLETED:
            await require_approval(run, index, resumption)
            if leaving.is_asked() and must_not_repeat(step):
                # Cut off half-way, nobody could go on with it.
                await leaving.hand_back(run.flow_run.id)
        if index and (excess := per_lead_excess(run.campaign, await run.patiently(run.report))):
            return await over_budget(run, (), excess, failures)
        state = await _do_step(run, index)
        await run.patiently(lambda: _look_at_alerts(run))
        if state.is_completed() or run.steps[index].status is StepStatus.COMPLETED:
            await _take_over(run, index, state)
            if recorded.status is not StepStatus.COMPLETED:
                await breaker.note_answer(step)
            if step.on_success == "abort":
                await _skip_rest(run, index)
                return await end(run, failures, f"Step {step.name!r} says to stop there")
            continue
        error = await state.aresult(raise_on_failure=False)
        if isinstance(error, BudgetRefused):
            return await over_budget(run, error.limits, str(error), failures)
        await breaker.note(step, error)
        failed = await run.patiently(partial(failed_result, run, index, failure_message(step, error)))
        if step.on_failure == "abort":
            return await finish(run, RunStatus.FAILED, Failed(), failure_in_words(failed))
        if step.on_failure == "continue":
            failures.append(failed)
        get_run_logger().warning("step %r failed and the campaign goes on: %s", step.name, failed.error)
    return await end(run, failures)


async def _resumption_of(run: CampaignRun) -> Resumption | None:
    """How the run goes on that was suspended for an approval: past its gate, and past what has failed."""
    if not any(step.approval for step in run.campaign.steps):
        return None
    async with get_client() as client:
        return await read_resumption(client, run.flow_run.id)


async def _is_about_to_reset(status: BudgetStatus) -> bool:
    """Wait for a reset that is seconds away: Prefect starts a run that is due at midnight half a second early or so."""
    reset = first_moment_without(status.reached)
    if reset is None or reset - status.at > MOMENT:
        return False
    await anyio.sleep((reset - status.at).total_seconds())
    return True


async def _look_at_alerts(run: CampaignRun) -> None:
    await tell_alerts(run, await run.store.budget_status(run.campaign.slug))


async def _do_step(run: CampaignRun, index: int) -> State[Any]:
    """Do a step; again when only the store was away, and has come back.

    Raises:
        StoreUnavailable: it did not come back.
    """
    for _ in range(STORE_OUTAGES):
        state: State[Any] = await task_for(run.campaign.steps[index])(run, index, return_state=True)
        error = None if state.is_completed() else await state.aresult(raise_on_failure=False)
        if isinstance(error, StoreUnavailable):
            run.is_behind = True
        await run.catch_up()
        if not isinstance(error, StoreUnavailable):
            return state
    raise StoreUnavailable(f"the store went away {STORE_OUTAGES} times during one step: {error}")


async def _lift_pause(run: CampaignRun) -> None:
    """Lift a pause of the budget whose time has come, should this run be here before the run that resumes."""
    if (await run.store.get_campaign(run.campaign.slug)).pause is None:
        return
    try:
        async with get_client() as client:
            resumption = await resume_after_budget(client, run.store, run.campaign.slug, now=run.clock.now())
    except (httpx.HTTPError, PrefectException, ServerError) as error:
        get_run_logger().warning("The campaign's pause is not looked at, since Prefect did not answer: %s", error)
    else:
        get_run_logger().info(resumption.message)


async def _take_over(run: CampaignRun, index: int, state: State[Any]) -> None:
    """Put a finished step into the run's record, where an earlier execution of the run has not done so."""
    if run.steps[index].status is not StepStatus.COMPLETED:
        step = StepResult.model_validate(await state.aresult())
        await run.patiently(lambda: run.save(step))


async def _skip_rest(run: CampaignRun, index: int) -> None:
    for step in run.steps[index + 1 :]:
        await run.patiently(partial(run.save, step.model_copy(update={"status": StepStatus.SKIPPED})))
