"""What ``campaigns budget`` does. Its help stands in ``main``, which imports this when it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated

from cyclopts import Parameter
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape

from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, CampaignRecord, PausedBy
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.budget import AccountBudget, limits_of
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.cli.budget_lines import account_lines, view_lines
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, AsJson, err, error_json, print_json, say
from prefect_campaigns.deployments.cli.unconfirmed import list_unconfirmed, settle_unconfirmed
from prefect_campaigns.deployments.driving.audit import record_beside
from prefect_campaigns.deployments.driving.budget_view import limit_json, view_budget, view_json
from prefect_campaigns.deployments.driving.lookup import find_campaign
from prefect_campaigns.deployments.driving.standing import read_states
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.deployments.running.server import connect
from prefect_campaigns.errors import ServerError, UsageError
from prefect_campaigns.flows.resuming import resume_after_budget
from prefect_campaigns.money import Money, format_money

NO_LIMIT = "none"
_LIFTS = f", and {NO_LIMIT!r} lifts the limit"

_MONEY = TypeAdapter(Money)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """What ``campaigns budget`` is asked for, besides the campaign; each option as it came."""

    account: Annotated[bool, Parameter(help="All campaigns together, and the limits that hold for them.")] = False
    daily: Annotated[str | None, Parameter(help="With --account: set this limit (USD); none lifts it.")] = None
    weekly: Annotated[str | None, Parameter(help="The same for the week, from Sunday.")] = None
    monthly: Annotated[str | None, Parameter(help="The same for the month.")] = None
    verify: Annotated[bool, Parameter(help="Add up the whole ledger, and compare.")] = False
    unconfirmed: Annotated[bool, Parameter(help="List the requests whose cost nobody knows.")] = False
    settle: Annotated[str | None, Parameter(help="Say what one of those cost, by its reference, with --amount.")] = None
    amount: Annotated[str | None, Parameter(help="What it cost, in US dollars: 0.05")] = None
    note: Annotated[str | None, Parameter(help="Why; it stays in the ledger.")] = None

    def refuse_contradictions(self, name: str | None) -> None:
        """Complain of options that do not go together.

        Raises:
            UsageError: in one sentence, with what to do.
        """
        limits = [f"--{period}" for period in ("daily", "weekly", "monthly") if getattr(self, period) is not None]
        acts = [f"--{act}" for act in ("verify", "unconfirmed") if getattr(self, act)]
        acts += ["--settle"] if self.settle is not None else []
        if name is None and not self.account:
            raise UsageError(
                "which campaign? campaigns budget NAME shows one, campaigns budget --account all of them together"
            )
        if name is not None and self.account:
            raise UsageError(f"--account is about all campaigns together; leave out {name!r}, or --account")
        if limits and not self.account:
            raise UsageError(
                f"{limits[0]} sets a limit of the account (with --account); a campaign's own limits stand in its file"
            )
        if len(acts) > 1 or (limits and acts):
            raise UsageError(f"{' and '.join((*acts, *limits)[:2])} are two commands; give one of them")
        if self.account and acts and acts != ["--verify"]:
            raise UsageError(f"{acts[0]} is about one campaign: campaigns budget NAME {acts[0]}")
        if self.settle is not None and self.amount is None:
            raise UsageError("what did it cost? Add --amount, in US dollars: --amount 0.05, or --amount 0")
        if self.settle is None and (self.amount is not None or self.note is not None):
            option = "--note" if self.amount is None else "--amount"
            raise UsageError(f"{option} belongs to --settle REF; campaigns budget NAME --unconfirmed lists them")


async def budget_command(name: str | None = None, /, *, asked: Asked | None = None, json: AsJson = False) -> int:
    """Show a budget.

    Parameters
    ----------
    name
        The campaign's name, slug or id.
    """
    cancel_on_signals()
    asked = asked or Asked()
    asked.refuse_contradictions(name)
    settings = load_settings()
    async with open_store(settings) as store:
        if name is None:
            return await _account(store, settings, asked, as_json=json)
        record = await find_campaign(store, name)
        if asked.verify:
            return await _verify(store, record.key, as_json=json)
        if asked.unconfirmed:
            return await list_unconfirmed(store, record, as_json=json)
        if asked.settle is not None:
            amount = _amount(asked.amount or "", "--amount")
            return await settle_unconfirmed(store, record, asked.settle, amount, asked.note or "", as_json=json)
        return await _show(store, record, as_json=json)


async def _show(store: CampaignStore, record: CampaignRecord, *, as_json: bool) -> int:
    states = await read_states(store, [record])
    view = await view_budget(store, states.campaigns[0])
    if as_json:
        print_json({"success": True, **view_json(view), "serverProblem": states.server_problem})
        return EXIT_OK
    for line in view_lines(view):
        say(line)
    if states.server_problem:
        say(f"[yellow]![/] Whether somebody paused it in Prefect is not known: {escape(states.server_problem)}", to=err)
    return EXIT_OK


async def _account(store: CampaignStore, settings: Settings, asked: Asked, *, as_json: bool) -> int:
    if asked.verify:
        return await _verify(store, None, as_json=as_json)
    budget = await store.account_budget()
    wanted = _with_limits(budget, asked, timezone=settings.campaigns_timezone)
    resumed: Sequence[str] = ()
    if wanted is not None:
        await store.set_account_budget(wanted)
        budget = wanted
        await record_beside(store, action=AuditAction.ACCOUNT_LIMITED, detail=_limits_detail(wanted))
        resumed = await _resume_what_it_held(store)
    status = await store.account_status()
    if as_json:
        limits = [limit_json(limit) for limit in status.account]
        print_json({"success": True, "timezone": budget.timezone, "limits": limits, "notes": list(resumed)})
        return EXIT_OK
    for line in account_lines(status, budget):
        say(line)
    for note in resumed:
        say(f"[yellow]![/] {escape(note)}")
    if wanted is None and budget.timezone != settings.campaigns_timezone:
        say(
            f"[yellow]![/] CAMPAIGNS_TIMEZONE is {settings.campaigns_timezone} here; it counts from when a limit is"
            " set again."
        )
    return EXIT_OK


def _limits_detail(budget: AccountBudget) -> dict[str, str | None]:
    limits = {str(period): None if limit is None else format_money(limit) for period, limit in limits_of(budget)}
    return {**limits, "timezone": budget.timezone}


async def _resume_what_it_held(store: CampaignStore) -> list[str]:
    """Look again at the campaigns that the budget has paused; return what became of each."""
    paused = [row.key for row in await store.list_campaigns() if row.pause and row.pause.by is PausedBy.BUDGET]
    if not paused:
        return []
    try:
        async with connect() as client:
            now = current_clock().now()
            return [(await resume_after_budget(client, store, key, now=now)).message for key in paused]
    except ServerError as error:
        return [f"What is paused stays so until its time, or until campaigns resume NAME: {error}"]


def _with_limits(budget: AccountBudget, asked: Asked, *, timezone: str) -> AccountBudget | None:
    """Return the budget with the limits that were asked for; None when none was."""
    given = {"daily": asked.daily, "weekly": asked.weekly, "monthly": asked.monthly}
    limits = {
        period: None if text.strip().lower() == NO_LIMIT else _amount(text, f"--{period}", besides=_LIFTS)
        for period, text in given.items()
        if text is not None
    }
    return replace(budget, **limits, timezone=timezone) if limits else None


def _amount(text: str, option: str, *, besides: str = "") -> Decimal:
    try:
        return _MONEY.validate_python(text.strip())
    except ValidationError as error:
        allowed = error.errors()[0]["msg"].removeprefix("Value error, ")
    raise UsageError(f"{option} is {text!r}; {allowed}{besides}")


async def _verify(store: CampaignStore, key: str | None, *, as_json: bool) -> int:
    differences = await store.verify_totals(key)
    whose = f"of {key}" if key else "of the account"
    if as_json:
        print_json({"success": not differences, **error_json(differences), "differences": list(differences)})
    elif differences:
        for difference in differences:
            say(f"[red]✗[/] {escape(difference)}", to=err)
    else:
        say(f"[green]✓[/] The books {whose} are in order: the totals agree with the ledger.")
    return EXIT_FAILED if differences else EXIT_OK
