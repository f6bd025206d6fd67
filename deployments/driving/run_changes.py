"""What one run is to do differently: other params of a step, or a later step to begin at."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord
from prefect_campaigns.deployments.driving.runs import parameters_to_run
from prefect_campaigns.errors import InvalidChange, SendMayHaveHappened, WrongState
from prefect_campaigns.faults import examine
from prefect_campaigns.flows.lineage import has_left, may_have_sent
from prefect_campaigns.loader import validate_object
from prefect_campaigns.models import Campaign, Step
from prefect_campaigns.results import RunReport, RunStatus, StepResult, StepStatus
from prefect_campaigns.words import json_pointer, listed, nearest, shown

RUNS_LOOKED_AT = 50
"""How many runs are looked through for results; those that did no step are not counted."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the options of a run are called where somebody gives them, for what is said of them."""

    param: str
    allowed: str
    from_step: str
    send_again: str


COMMAND_WORDS = Words(
    param="--param",
    allowed="allowed is steps.NAME.KEY=VALUE, with more KEYs to go deeper into what a step's params hold",
    from_step="--from",
    send_again="--send-again",
)
BODY_WORDS = Words(
    param="params",
    allowed='allowed is "steps.NAME.KEY": VALUE, with more KEYs to go deeper into what a step\'s params hold',
    from_step="fromStep",
    send_again="sendAgain",
)


@dataclass(frozen=True, kw_only=True)
class RunChanges:
    """What one run is to do differently.

    Attributes:
        params: other values for what stands in the params of steps, by ``steps.NAME.KEY``.
        from_step: the step at which it begins; None for the first one.
        send_again: whether it begins there even though something would be sent a second time.
        faults: what is wrong with how the params were typed, a sentence each.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    from_step: str | None = None
    send_again: bool = False
    faults: Sequence[str] = ()


async def parameters_for(
    client: PrefectClient, store: CampaignStore, record: CampaignRecord, changes: RunChanges, *, words: Words
) -> tuple[dict[str, Any], RunReport | None]:
    """Return what the run's parameters differ in from its deployment's, and the run whose results it takes over.

    Raises:
        InvalidChange: the changes cannot be used; says all that is wrong with them.
        WrongState: no run has the results to begin with, or the one that has is still going.
        SendMayHaveHappened: a step from there on has sent with these results, or may have; unless ``send_again``.
        NotDeployed: the campaign has no deployment.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    if changes.send_again and changes.from_step is None:
        raise InvalidChange(
            [f"{words.send_again} belongs to {words.from_step}; a run that begins at its first step is another one"]
        )
    changes_params = bool(changes.params or changes.faults)
    if not changes_params and changes.from_step is None:
        return {}, None
    whole = await parameters_to_run(client, record)
    if changes_params:
        whole["campaign"] = change_params(whole.get("campaign"), changes, words=words)
    parameters = whole if changes_params else {}
    if changes.from_step is None:
        return parameters, None
    campaign = validate_object(whole["campaign"], source="the deployment's parameters")
    begin, source = await begin_at(store, campaign, changes.from_step, send_again=changes.send_again, words=words)
    return parameters | begin, source


def typed(changes: Sequence[str], *, from_step: str | None = None, send_again: bool = False) -> RunChanges:
    """Return what was typed: ``steps.prospecting.count=5``.

    The value is JSON where it can be read as such, and otherwise the text itself.
    """
    faults, said, params = list[str](), dict[str, str](), dict[str, Any]()
    for text in changes:
        path, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            faults.append(f"--param {shown(text)}: there is no = in it; {COMMAND_WORDS.allowed}")
        elif path in said:
            faults.append(f"--param {path}: it comes twice, as {shown(said[path])} and as {shown(value)}")
        else:
            said[path], params[path] = value, _read(value)
    return RunChanges(params=params, from_step=from_step, send_again=send_again, faults=faults)


def change_params(campaign: Any, changes: RunChanges, *, words: Words = COMMAND_WORDS) -> dict[str, Any]:
    """Return a campaign's JSON with some params of its steps changed.

    What is changed has to be there already, so that a slip of the pen changes nothing else.

    Raises:
        InvalidCampaign: what stands in the parameters, where a person may have edited it, is no campaign.
        InvalidChange: says all that is wrong with the changes.
    """
    validate_object(campaign, source="the run's parameters")
    changed, faults = copy.deepcopy(dict(campaign)), [*changes.faults]
    for path, value in changes.params.items():
        faults += (f"{words.param} {path}: {fault}" for fault in _set(changed, path, value, words))
    if not faults:
        faults += (f"{words.param}: {json_pointer(fault.path)}: {fault.message}" for fault in examine(changed)[1])
    if faults:
        raise InvalidChange(faults)
    return changed


def _read(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        return text


def _set(campaign: dict[str, Any], path: str, value: Any, words: Words) -> Iterator[str]:
    """Change one param; yield why it cannot be."""
    head, _, rest = path.partition(".")
    if head != "steps":
        yield f"{shown(head)} came; {words.allowed}"
        return
    steps = {step["name"]: step for step in campaign["steps"]}
    # The longest name that fits: a step's name may have dots in it.
    name = max((one for one in steps if rest == one or rest.startswith(f"{one}.")), key=len, default=None)
    if name is None:
        meant = nearest(rest.partition(".")[0], steps)
        hint = f"did you mean {shown(meant)}? " if meant else ""
        yield f"no step is named {shown(rest.partition('.')[0])}; {hint}its steps are {listed(steps)}"
        return
    keys = rest[len(name) + 1 :].split(".") if rest != name else []
    if not all(keys) or not keys:
        yield f"which of the params of step {shown(name)}? {_there(steps[name].get('params', {}))}"
        return
    yield from _set_in(steps[name].get("params", {}), keys, value, f"the params of step {shown(name)}")


def _set_in(container: Any, keys: Sequence[str], value: Any, called: str) -> Iterator[str]:
    key, *deeper = keys
    place: Any = int(key) if isinstance(container, list) and key.isascii() and key.isdigit() else key
    present = (isinstance(container, dict) and place in container) or (
        isinstance(container, list) and isinstance(place, int) and place < len(container)
    )
    if not present:
        meant = nearest(key, container) if isinstance(container, dict) else None
        hint = f"did you mean {shown(meant)}? " if meant else ""
        yield f"{called} {_have(container, key)}; {hint}{_there(container)}"
    elif deeper:
        yield from _set_in(container[place], deeper, value, f"{shown(key)} of {called}")
    else:
        container[place] = value


def _have(container: Any, key: str) -> str:
    verb = "has" if isinstance(container, (dict, list)) else "is no object, and has"
    return f"{verb} no {shown(key)}"


def _there(container: Any) -> str:
    if isinstance(container, dict) and container:
        return f"there is {listed(container)}"
    if isinstance(container, list) and container:
        return f"there is 0 to {len(container) - 1}"
    return "there is nothing in it"


async def begin_at(
    store: CampaignStore, campaign: Campaign, step_name: str, *, send_again: bool, words: Words = COMMAND_WORDS
) -> tuple[dict[str, Any], RunReport | None]:
    """Return the flow's parameters for a run that begins at a step, and the run whose results it takes over.

    That is the newest run in which all steps before the step have completed. At the first step it is a run like any.

    Raises:
        InvalidChange: there is no such step.
        WrongState: no run has the results to begin with, or the one that has is still going.
        SendMayHaveHappened: a step from there on has sent with these results, or may have; unless ``send_again``.
        StoreError: the store is not there.
    """
    names = [step.name for step in campaign.steps]
    if step_name not in names:
        meant = nearest(step_name, names)
        hint = f"did you mean {shown(meant)}? " if meant else ""
        fault = f"{words.from_step}: no step is named {shown(step_name)}; {hint}its steps are {listed(names)}"
        raise InvalidChange([fault])
    index = names.index(step_name)
    if index == 0:
        return {}, None
    runs = await runs_that_did_a_step(store, campaign.slug)
    source = next((run for run in runs if _results(run, names[:index]) is not None), None)
    if source is None:
        raise WrongState(
            f"none of the last {RUNS_LOOKED_AT} runs of {campaign.slug} has completed all steps before"
            f" {shown(step_name)}, with whose results it could begin there. Leave out"
            f" {words.from_step} to begin at the first"
        )
    if source.status is RunStatus.RUNNING:
        raise WrongState(
            f"run {source.run_name}, whose results it would take, has not ended; wait for it, or cancel it"
        )
    parameters: dict[str, Any] = {"from_step": step_name, "results_of": source.run_id}
    if send_again:
        return {**parameters, "send_again": True}, source
    # The run asks again, once it has the campaign for itself; here it is said to whoever asks for it.
    lineage = _of_one_lineage(runs, source, names[:index])
    await _refuse_to_send_again(store, campaign, campaign.steps[index:], lineage, words)
    return parameters, source


async def runs_that_did_a_step(store: CampaignStore, campaign_key: str) -> Sequence[RunReport]:
    """Return the runs whose results may be taken, newest first: the last ``RUNS_LOOKED_AT`` that did a step.

    However many were skipped since, or ended before their first step, they hide no results.
    """
    limit = RUNS_LOOKED_AT
    while True:
        runs = await store.list_runs(campaign_key, limit=limit)
        found = [run for run in runs if any(map(_is_begun, run.steps))]
        if len(found) >= RUNS_LOOKED_AT or len(runs) < limit:
            return found[:RUNS_LOOKED_AT]
        limit *= 4


def _is_begun(step: StepResult) -> bool:
    return step.status not in (StepStatus.PENDING, StepStatus.SKIPPED) or step.result is not None


def _results(run: RunReport, names: Sequence[str]) -> list[Any] | None:
    """Return the results of these steps of a run; None where it has not all of them.

    A run that began at a later step has taken over those before it, which are skipped and have results all the same.
    """
    steps = {step.name: step for step in run.steps}
    found = [steps.get(name) for name in names]
    if not all(step is not None and (_is_done(step) or step.result is not None) for step in found):
        return None
    return [step.result for step in found if step is not None]


def _is_done(step: StepResult) -> bool:
    return step.status is StepStatus.COMPLETED


def _of_one_lineage(runs: Sequence[RunReport], source: RunReport, names: Sequence[str]) -> Iterator[RunReport]:
    """Yield the run with the results, and the earlier ones that have gone on with the same."""
    results = _results(source, names)
    for run in runs[runs.index(source) :]:
        if _results(run, names) == results:
            yield run
            if all(_is_done(step) for step in run.steps if step.name in names):
                return


async def _refuse_to_send_again(
    store: CampaignStore, campaign: Campaign, steps: Sequence[Step], runs: Iterator[RunReport], words: Words
) -> None:
    sending = [step for step in steps if step.sends_something]
    for run in runs:
        for step, name in [(one, name) for one in sending for name in may_have_sent(campaign, one, run)]:
            if why := await _sent(store, run, name):
                what = "and would send" if name == step.name else f"and step {shown(step.name)} might send the same"
                raise SendMayHaveHappened(
                    f"step {shown(name)} {why} in run {run.run_name} of {run.started_at:%Y-%m-%d %H:%M} UTC, with"
                    f" the same results, {what} again. If that is what you want, add {words.send_again}"
                )


async def _sent(store: CampaignStore, run: RunReport, step_name: str) -> str | None:
    """Say in words whether a step has sent in a run; None where no request of it has left."""
    recorded = next((one for one in run.steps if one.name == step_name), None)
    if recorded is not None and _is_done(recorded):
        return "has sent"
    return "may have sent" if await has_left(store, run.run_id, step_name, report=run) else None
