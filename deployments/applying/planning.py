"""Making a plan: reading what there is, and comparing it with what should be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import CampaignRecord, Pause, PausedBy
from prefect_campaigns.deployments.applying.notifiers import Notifiers, Telling, TellingChange
from prefect_campaigns.deployments.applying.observed import Observed, observe
from prefect_campaigns.deployments.applying.plan import (
    API_ORIGIN,
    CampaignPlan,
    Change,
    Deletion,
    Plan,
    compare,
    orphans,
    renamed,
    upkeep_changes,
)
from prefect_campaigns.deployments.applying.saved_secrets import unused_secrets
from prefect_campaigns.deployments.checking.campaigns_checks import check_hosts, check_secrets
from prefect_campaigns.deployments.checking.findings import Health
from prefect_campaigns.deployments.compile import WORK_POOL, WORK_POOL_TYPE, CompiledCampaign, compile_operators
from prefect_campaigns.deployments.driving.strays import describe_strays, strays_among
from prefect_campaigns.flows.pausing import who_paused
from prefect_campaigns.flows.stopping import describe

NO_MAIL = "No mail will be sent: set SMTP_HOST (and SMTP_USER, SMTP_PASS) in .env, and apply again."
_OTHER_POOL = (
    f"Work pool {WORK_POOL} is of type {{}}, so that every run is slow to start. For a campaign worker: end its worker,"
    f" prefect work-pool delete {WORK_POOL}, apply again, prefect worker start --pool {WORK_POOL}."
)
_OTHER_BOOKS = (
    "The books at {} did not know {}, which the Prefect server did: what was spent before counts there no more. If it"
    " stands in other books, carry them over (campaigns db import), or correct SUPABASE_URL or CAMPAIGNS_DATABASE."
)
_SHOWN = 10
"""How many names a note lists."""


async def make_plan(
    client: PrefectClient,
    store: CampaignStore,
    settings: Settings,
    compiled: Sequence[CompiledCampaign],
    *,
    origins: Mapping[str, str],
    prune: Sequence[str] = (),
    are_all: bool = True,
) -> Plan:
    """Return what an apply of these campaigns would do; nothing is written.

    Args:
        origins: the folder of each campaign's file, or API_ORIGIN, by key.
        prune: the folders whose campaigns are deleted when their file is gone.
        are_all: whether these are all campaigns of those folders; of a file that is broken nobody knows whose it is.

    Raises:
        ServerError: a campaign names a Slack block that is not on the server.
        StoreError: the store is not there.
        PrefectException, httpx.HTTPError: Prefect is not there.
    """
    observed = await observe(client, store)
    campaigns = compare(compiled, observed, origins=origins, pauses=await _pauses(client, observed))
    keys = {one.slug for one in compiled}
    # What the REST API made never had a file.
    folders = sorted(({*origins.values()} | set(prune)) - {API_ORIGIN})
    gone = orphans(observed, folders=folders, keys=keys) if are_all else ()
    deletions = tuple(Deletion(row=row) for row in gone if row.origin in prune)
    deleted = {one.row.key for one in deletions}
    notifiers = Notifiers(client, settings)
    telling = await notifiers.plan(
        [*compile_operators(settings.operators), *(one for campaign in compiled for one in campaign.automations)],
        tags_in_use=tags_in_use(observed, compiled, deleted),
        secrets=[secret for one in compiled for secret in one.secrets],
    )
    others = (deployment for key, deployment in observed.deployments.items() if key not in keys | deleted)
    parameters = [*(one.parameters for one in compiled), *(deployment.parameters for deployment in others)]
    unused = [
        TellingChange(
            change=Telling.DELETED, what=f"block {name}, which holds a secret that nothing refers to any more"
        )
        for name in await unused_secrets(client, parameters)
    ]
    notes = [*_notes(store, observed, campaigns)]
    if notifiers.leaves_unmailed:
        notes.insert(0, NO_MAIL)
    if notifiers.switched_off:
        notes.append(
            f"Switched off in Prefect by a person, and nobody is told by it: {_listed(notifiers.switched_off)}."
        )
    secrets = await check_secrets(
        client,
        settings,
        [one.campaign for one in compiled],
        to_come=[secret.block_name for one in compiled for secret in one.secrets],
    )
    hosts = check_hosts(settings, [one.campaign for one in compiled])
    notes += [f"{one.found}; {one.remedy}." for one in (*hosts, *secrets) if one.health is not Health.WELL]
    notes += _renamings(campaigns, gone, deleted)
    if left := [row.key for row in gone if row.key not in deleted]:
        notes.append(f"No file any more: {_listed(left)}; campaigns apply FOLDER --prune deletes what has none.")
    if strays := strays_among(observed.deployments.values(), {*observed.rows, *keys}):
        notes.append(describe_strays(strays))
    if stop := await store.read_stop():
        notes.append(describe(stop))
    return Plan(
        campaigns=campaigns,
        deletions=deletions,
        upkeep=upkeep_changes(observed),
        telling=(*telling, *unused),
        notes=tuple(notes),
    )


async def _pauses(client: PrefectClient, observed: Observed) -> dict[str, Pause | None]:
    """Return who paused the campaigns of which the store alone does not say it."""
    asked = [
        row
        for key, row in observed.rows.items()
        if row.pause is not None
        and row.pause.by is PausedBy.BUDGET
        and row.pause.awaited_run_id is not None
        and key in observed.deployments
        and observed.deployments[key].paused
    ]
    found = await asyncio.gather(*(who_paused(client, row) for row in asked))
    return {row.key: pause for row, pause in zip(asked, found, strict=True)}


def tags_in_use(observed: Observed, compiled: Sequence[CompiledCampaign], deleted: set[str]) -> set[str]:
    """Return the tags of all deployments as they will be: those that are applied, and those that are not."""
    keys = {one.slug for one in compiled} | deleted
    others = (deployment.tags for key, deployment in observed.deployments.items() if key not in keys)
    return {tag for tags in (*others, *(one.tags for one in compiled)) for tag in tags}


def _notes(store: CampaignStore, observed: Observed, campaigns: Sequence[CampaignPlan]) -> list[str]:
    notes = []
    if observed.pool_type not in (None, WORK_POOL_TYPE):
        notes.append(_OTHER_POOL.format(observed.pool_type))
    unknown = [one.compiled.slug for one in campaigns if one.row is None and one.change is not Change.CREATED]
    if unknown:
        notes.append(_OTHER_BOOKS.format(store.books, _listed(unknown)))
    return notes


def _renamings(campaigns: Sequence[CampaignPlan], gone: Sequence[CampaignRecord], deleted: set[str]) -> list[str]:
    notes = []
    for one in campaigns:
        if one.change is not Change.CREATED or one.row is not None:
            continue
        if (before := renamed(one.compiled, gone)) is not None:
            fate = "is deleted" if before.key in deleted else "stays, and goes on running"
            notes.append(
                f"{one.compiled.slug} has the steps of {before.key}, whose file is gone. With another name it is"
                f" another campaign, with a budget of its own; {before.key} {fate}."
            )
    return notes


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
