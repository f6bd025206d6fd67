"""What a run would do: each request as it would leave, what it would reserve, and where a limit would stop it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from prefect.client.orchestration import PrefectClient
from rich.text import Text

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, PausedBy
from prefect_campaigns.budget import LimitStatus, Scope, describe_limits
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.driving.run_changes import runs_that_did_a_step
from prefect_campaigns.deployments.driving.runs import parameters_to_run
from prefect_campaigns.deployments.driving.standing import CampaignState, describe_stop, warnings_of
from prefect_campaigns.flows.breaker import in_words
from prefect_campaigns.flows.messages import show_url
from prefect_campaigns.flows.requests import ShownRequest, show_request
from prefect_campaigns.loader import validate_object
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.money import format_money
from prefect_campaigns.references import references_in
from prefect_campaigns.results import RunReport

MAX_LINES = 12
"""How many lines of a step's params are shown to people; programs get all of it."""

MAX_WIDTH = 66

WHILE_PAUSED = "a person has paused it; `campaigns run` starts it all the same, the REST API does not"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a step would reserve, in US dollars, and where that is known from.

    Attributes:
        amount: None where nobody knows: such a step is refused once a limit is reached.
    """

    amount: Decimal | None
    basis: str


@dataclass(frozen=True, kw_only=True)
class StepAhead:
    """A step as it would be done.

    Attributes:
        request: with what is known of earlier results filled in, and every secret as ``********``.
        unknown: the references that nothing is known of, as they are written.
        refused: why a limit would refuse it; None where none would.
        limits: the limits that are set, as they would be after it; empty once a limit has refused a step.
        taken_over: whether the run begins later, and takes its result over.
    """

    step: Step
    request: ShownRequest
    unknown: Sequence[str]
    estimate: Estimate
    refused: str | None
    limits: Sequence[LimitStatus]
    taken_over: bool


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """A run that is not started.

    Attributes:
        source: the run whose results fill in the references; None where none has any.
        obstacles: what would keep it from beginning, a sentence each.
        warnings: what is to be known besides, a sentence each.
        limits: the limits that are set, as they are now.
    """

    campaign: Campaign
    source: RunReport | None
    obstacles: Sequence[str]
    warnings: Sequence[str]
    limits: Sequence[LimitStatus]
    steps: Sequence[StepAhead]

    @property
    def total(self) -> Decimal:
        """What all of its steps would reserve, as far as that is known."""
        return sum((one.estimate.amount or Decimal(0) for one in self.steps if not one.taken_over), Decimal(0))


async def look_ahead(
    client: PrefectClient, store: CampaignStore, state: CampaignState, parameters: Mapping[str, Any]
) -> Ahead:
    """Work out what a run with these parameters would do; starts nothing, calls no engine, reads no secret.

    Args:
        state: the campaign, and how it stands.

    Raises:
        NotDeployed: the campaign has no deployment.
        StoreError: the store is not there.
    """
    record = state.record
    written = parameters.get("campaign") or (await parameters_to_run(client, record))["campaign"]
    campaign = validate_object(written, source="the run's parameters")
    source = await _source(store, record.key, parameters.get("results_of"))
    # What the flow looks at is what stands in the books, whatever the parameters say.
    status = await store.budget_status(record.key)
    limits = tuple(limit for limit in status.all if limit.limit is not None)
    if (per_run := record.campaign.budget.per_run) is not None:
        nothing = Decimal(0)
        limits += (LimitStatus(scope=Scope.RUN, window=None, limit=per_run, spent=nothing, reserved=nothing),)
    names = [step.name for step in campaign.steps]
    first = names.index(parameters["from_step"]) if parameters.get("from_step") else 0
    estimates = [await _estimate(store, record.key, step) for step in campaign.steps]
    return Ahead(
        campaign=campaign,
        source=source,
        obstacles=[line async for line in _obstacles(store, record, status.reached, campaign.steps[first:])],
        warnings=warnings_of(state, WHILE_PAUSED, now=current_clock().now()),
        limits=limits,
        steps=list(_steps_ahead(campaign, estimates, limits, _results(source) if source else {}, first)),
    )


async def _source(store: CampaignStore, campaign_key: str, wanted: str | None) -> RunReport | None:
    if wanted is not None:
        return await store.get_run(wanted)
    return next((run for run in await runs_that_did_a_step(store, campaign_key) if _results(run)), None)


def _results(run: RunReport) -> dict[str, Any]:
    return {step.name: step.result for step in run.steps if step.result is not None}


async def _obstacles(
    store: CampaignStore, record: CampaignRecord, reached: Sequence[LimitStatus], steps: Sequence[Step]
) -> AsyncIterator[str]:
    if (stop := await store.read_stop()) is not None:
        yield describe_stop(stop)
    if reached:
        yield f"It would end as BudgetExceeded before its first step: {describe_limits(reached)}"
    elif record.pause is not None and record.pause.by is PausedBy.BUDGET:
        yield f"Its campaign is paused by the budget: {record.pause.reason}"
    asked, now = {show_url(step.endpoint) for step in steps}, current_clock().now()
    for trouble in await store.engine_troubles() if load_settings().campaigns_breaker_runs else ():
        if trouble.endpoint in asked and trouble.is_left_alone(now):
            yield f"It would end before its first step: {in_words(trouble)}"


async def _estimate(store: CampaignStore, campaign_key: str, step: Step) -> Estimate:
    """Return what the store would reserve: what the step says, else the largest of its last five costs."""
    if step.estimated_cost is not None:
        return Estimate(amount=step.estimated_cost, basis="its estimatedCost")
    cost = await store.last_cost(campaign_key, step.name)
    if cost is None:
        return Estimate(amount=None, basis="it has never been answered, and has no estimatedCost")
    return Estimate(amount=cost, basis="the largest of its last five costs" if cost else "it has never cost anything")


def _steps_ahead(
    campaign: Campaign,
    estimates: Sequence[Estimate],
    limits: Sequence[LimitStatus],
    results: Mapping[str, Any],
    first: int,
) -> Iterator[StepAhead]:
    refused: str | None = None
    for index, (step, estimate) in enumerate(zip(campaign.steps, estimates, strict=True)):
        taken_over, was_refused = index < first, refused is not None
        if not taken_over and refused is None:
            refusing = [limit for limit in limits if limit.refuses(estimate.amount)]
            refused = describe_limits(refusing) or None
            if refused is None:
                limits = [replace(one, reserved=one.reserved + (estimate.amount or 0)) for one in limits]
        request = show_request(campaign, step, results=results)
        left = {reference.text for reference in references_in(request.params)}
        yield StepAhead(
            step=step,
            request=request,
            unknown=[one.text for one in references_in(step.params) if one.text in left],
            estimate=estimate,
            refused=None if was_refused or taken_over else refused,
            limits=() if refused else limits,
            taken_over=taken_over,
        )


def look_ahead_lines(ahead: Ahead) -> Iterator[Text]:
    """Yield what a run would do, for eighty columns."""
    yield Text.assemble(
        ("Dry run of ", ""), (ahead.campaign.name, "bold"), ": nothing is started, no engine is called."
    )
    if ahead.source is not None:
        yield Text(f"References show the results of run {ahead.source.run_name}, where it has them.", style="dim")
    for remark in (*ahead.obstacles, *ahead.warnings):
        yield Text(f"! {remark}", style="yellow")
    for number, one in enumerate(ahead.steps, start=1):
        yield Text()
        yield from _step_lines(number, one)
    yield Text()
    yield Text(f"Its steps would reserve {format_money(ahead.total)} USD in all.{_unknown_too(ahead)}")
    after = next((one.limits for one in reversed(ahead.steps) if one.limits), ())
    for now, then in zip(ahead.limits, after, strict=False):
        yield Text(f"  {now.name}: {_left(now)} left now, {_left(then)} when it ends")


def _unknown_too(ahead: Ahead) -> str:
    unknown = [one.step.name for one in ahead.steps if one.estimate.amount is None and not one.taken_over]
    return f" What {', '.join(unknown)} costs is not known." if unknown else ""


def _left(limit: LimitStatus) -> str:
    return format_money(limit.left or Decimal(0))


def _step_lines(number: int, one: StepAhead) -> Iterator[Text]:
    step = one.step
    yield Text.assemble((f"{number}. {step.name}", "bold"), f"  {step.method} {step.endpoint}")
    if one.taken_over:
        yield Text("   not done again: its result is taken over", style="dim")
        return
    for name, value in one.request.headers.items():
        yield Text(f"   {name}: {value}")
    yield from _params_lines(one.request.params)
    for reference in dict.fromkeys(one.unknown):
        yield Text(f"   not known before it runs: {reference}", style="yellow")
    if step.approval is not None:
        yield Text("   waits before it until somebody approves it", style="yellow")
    amount = (
        "an amount that nobody knows" if one.estimate.amount is None else f"{format_money(one.estimate.amount)} USD"
    )
    yield Text(f"   reserves {amount}: {one.estimate.basis}")
    if one.refused:
        yield Text("   here a limit refuses, and the run ends:", style="red")
        yield Text(f"   {one.refused}", style="red")


def _params_lines(params: Mapping[str, Any]) -> Iterator[Text]:
    lines = json.dumps(params, ensure_ascii=False, indent=2, default=str).splitlines() if params else []
    for line in lines[:MAX_LINES]:
        cut = line if len(line) <= MAX_WIDTH else f"{line[: MAX_WIDTH - 1]}…"
        yield Text(f"   {cut}", style="cyan")
    if len(lines) > MAX_LINES:
        yield Text(f"   … {len(lines) - MAX_LINES} more lines; --json shows all", style="dim")


def look_ahead_json(ahead: Ahead) -> dict[str, Any]:
    """Return what a run would do, as programs read it."""
    return {
        "campaign": ahead.campaign.slug,
        "resultsOf": ahead.source.run_id if ahead.source else None,
        "obstacles": list(ahead.obstacles),
        "warnings": list(ahead.warnings),
        "reserved": format_money(ahead.total),
        "steps": [_step_json(one) for one in ahead.steps],
    }


def _step_json(one: StepAhead) -> dict[str, Any]:
    amount = one.estimate.amount
    return {
        "name": one.step.name,
        "engine": one.step.engine,
        "method": one.step.method,
        "url": one.step.endpoint,
        "headers": one.request.headers,
        "params": one.request.params,
        "unknown": list(one.unknown),
        "takenOver": one.taken_over,
        "approval": one.step.approval is not None,
        "estimate": None if amount is None else format_money(amount),
        "estimateFrom": one.estimate.basis,
        "refused": one.refused,
        "left": {limit.name: _left(limit) for limit in one.limits},
    }
