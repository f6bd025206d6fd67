"""What ``campaigns show``, ``delete`` and ``audit`` do."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from rich.markup import escape
from slugify import slugify

from prefect_campaigns.blocks.settings import load_settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditEntry
from prefect_campaigns.blocks.stores import open_store
from prefect_campaigns.deployments.applying.removal import delete_campaign, delete_stray
from prefect_campaigns.deployments.cli.asking import agreed
from prefect_campaigns.deployments.cli.campaign_page import page
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, AsJson, err, out, print_json, say
from prefect_campaigns.deployments.cli.printing import Entry, Listing
from prefect_campaigns.deployments.cli.run_commands import at_work
from prefect_campaigns.deployments.driving.audit import local_actor
from prefect_campaigns.deployments.driving.campaign_view import campaign_json, view_campaign
from prefect_campaigns.deployments.driving.cancelling import unended_runs
from prefect_campaigns.deployments.driving.lookup import find_campaign, match_campaign
from prefect_campaigns.deployments.driving.strays import NOT_IN_BOOKS, find_campaign_or_stray
from prefect_campaigns.deployments.running.interrupts import cancel_on_signals
from prefect_campaigns.errors import UnknownCampaign
from prefect_campaigns.flows.paused_deployment import read_deployment


async def show_command(name: str, /, *, json: AsJson = False) -> int:
    """Show a campaign.

    Parameters
    ----------
    name
        The campaign's name, slug or id.
    """
    cancel_on_signals()
    async with open_store(load_settings()) as store:
        view = await view_campaign(store, await find_campaign(store, name))
    if json:
        print_json({"success": True, **campaign_json(view)})
        return EXIT_OK
    out.print(page(view))
    if view.server_problem:
        say(f"[yellow]![/] What was paused in Prefect is not known: {escape(view.server_problem)}", to=err)
    return EXIT_OK


async def delete_command(name: str, /, *, yes: bool = False, json: AsJson = False) -> int:
    """Delete a campaign.

    Parameters
    ----------
    name
        The campaign's name, slug or id.
    yes
        Do not ask.
    """
    async with at_work() as (client, store):
        record = await find_campaign_or_stray(client, store, name)
        if isinstance(record, DeploymentResponse):
            return await _delete_stray(client, store, record, yes=yes, as_json=json)
        if not yes:
            deployment = await read_deployment(client, record)
            what = f"{record.campaign.name} (campaign/{record.key})"
            if not await _is_agreed(client, deployment, what, record.key, as_json=json):
                return EXIT_FAILED
        await delete_campaign(client, store, record, actor=local_actor())
    if json:
        print_json({"success": True, "campaign": record.key, "id": str(record.id), "message": "Campaign deleted"})
    else:
        say(f"[green]✓[/] {escape(record.campaign.name)} and its runs are deleted.")
        say("  What it has spent stays in the ledger, under its key.")
    return EXIT_OK


async def _delete_stray(
    client: PrefectClient, store: CampaignStore, stray: DeploymentResponse, *, yes: bool, as_json: bool
) -> int:
    what = f"campaign/{stray.name}, which is {NOT_IN_BOOKS} at {store.books} and may be in others"
    if not yes and not await _is_agreed(client, stray, what, stray.name, as_json=as_json):
        return EXIT_FAILED
    await delete_stray(client, store, stray, actor=local_actor())
    if as_json:
        print_json({"success": True, "campaign": stray.name, "id": None, "message": "Deployment deleted"})
    else:
        say(f"[green]✓[/] Deployment campaign/{stray.name}, which was {NOT_IN_BOOKS}, and its runs are deleted.")
    return EXIT_OK


async def _is_agreed(
    client: PrefectClient, deployment: DeploymentResponse | None, what: str, key: str, *, as_json: bool
) -> bool:
    """Ask whether it is to be deleted, and say so where it is not."""
    going = len(await unended_runs(client, deployment_id=deployment.id)) if deployment else 0
    runs = "all its runs" + (f", of which {going} have not ended and would be cancelled" if going else "")
    otherwise = f"deleting {key} cannot be undone; add --yes to do it"
    if await agreed(f"Delete {escape(what)}, {runs}?", otherwise=otherwise, may_ask=not as_json):
        return True
    say("Nothing was changed.")
    return False


async def audit_command(
    name: str | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 50,
    json: AsJson = False,
) -> int:
    """List who did what.

    Parameters
    ----------
    name
        The campaign's name, slug or id; by default all.
    limit
        How many to show at the most.
    """
    cancel_on_signals()
    async with open_store(load_settings()) as store:
        entries = await _entries(store, name, limit)
    if json:
        listed = [_entry_json(entry) for entry in entries]
        print_json({"success": True, "count": len(listed), "entries": listed})
    elif not entries:
        say("Nobody has done anything yet.")
    else:
        columns = ("When (UTC)", "What", "Campaign", "Who", "")
        out.print(Listing(*columns, first=3, entries=[_listed(entry) for entry in entries]))
    return EXIT_OK


async def _entries(store: CampaignStore, name: str | None, limit: int) -> Sequence[AuditEntry]:
    """Return what was done to a campaign, which may be deleted by now, or to all.

    Raises:
        UnknownCampaign: there is none, and was none.
    """
    if name is None:
        return await store.list_audit(limit=limit)
    try:
        key = match_campaign(name, await store.list_campaigns()).key
    except UnknownCampaign:
        entries = await store.list_audit(campaign_key=slugify(name), limit=limit)
        if not entries:
            raise
        return entries
    return await store.list_audit(campaign_key=key, limit=limit)


def _listed(entry: AuditEntry) -> Entry:
    detail = " ".join(f"{name}={_shown(value)}" for name, value in entry.detail.items() if value not in (None, [], {}))
    return Entry(
        cells=(f"{entry.at:%Y-%m-%d %H:%M:%S}", str(entry.action), entry.campaign_key or "", entry.actor, detail),
        beneath=f"by {entry.actor}{detail and f': {detail}'}",
    )


def _shown(value: Any) -> str:
    """Return a value in one line: people, and callers of the REST API, have written some of them."""
    text = value if isinstance(value, str) else jsonlib.dumps(value, ensure_ascii=False)
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _entry_json(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "action": entry.action.value,
        "campaign": entry.campaign_key,
        "detail": dict(entry.detail),
    }
