"""Is everything there that the campaigns in the books need: engines, hosts, secrets? Has nobody stopped them?"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from prefect.client.orchestration import PrefectClient

from prefect_campaigns.blocks.settings import Settings
from prefect_campaigns.blocks.store_types import EngineTrouble, Stop
from prefect_campaigns.deployments.checking.engine_health import (
    HEALTH_PATH,
    Answering,
    EngineHealth,
    ask_engines,
    campaigns_by_engine,
)
from prefect_campaigns.deployments.checking.findings import Finding, broken, doubtful, well
from prefect_campaigns.flows.breaker import in_words
from prefect_campaigns.models import Campaign
from prefect_campaigns.references import SecretReference, secrets_in

BLOCKS_AT_ONCE = 100


async def check_engines(campaigns: Iterable[Campaign]) -> list[Finding]:
    """Ask each engine that any campaign calls how it is, all at once."""
    needed_by = campaigns_by_engine(campaigns)
    return [_engine(health, needed_by[health.origin]) for health in await ask_engines(needed_by)]


def left_alone(troubles: Iterable[EngineTrouble], *, now: datetime) -> list[Finding]:
    """Say which engines runs leave alone, since one after the other has failed by them."""
    remedy = "see to that engine; the first run after that time tries it"
    return [doubtful("Engine", in_words(one), remedy) for one in troubles if one.is_left_alone(now)]


def _engine(health: EngineHealth, needed_by: Sequence[str]) -> Finding:
    if health.answering is Answering.HEALTHY:
        return well("Engine", f"{health.origin} is healthy")
    found = f"{health.origin}, which {_needs(needed_by)}: {health.said}"
    if health.answering is Answering.UNCLEAR:
        return doubtful("Engine", found, f"see whether that is the engine; a healthy one says so at {HEALTH_PATH}")
    return broken("Engine", found, "start it, or correct the steps' endpoint; campaigns apply")


def _named(campaigns: Sequence[str]) -> str:
    return ", ".join(campaigns[:3]) + ("" if len(campaigns) <= 3 else f" and {len(campaigns) - 3} more")


def check_hosts(settings: Settings, campaigns: Iterable[Campaign]) -> list[Finding]:
    """See whether steps may ask the hosts of their endpoints, by the settings here."""
    needed_by: dict[str, list[str]] = {}
    for campaign in campaigns:
        for step in campaign.steps:
            if not settings.allowed_hosts.allow(step.endpoint):
                names = needed_by.setdefault(urlsplit(step.endpoint).netloc, [])
                if campaign.slug not in names:
                    names.append(campaign.slug)
    remedy = "list it there, where the workers run, or correct the steps' endpoint"
    return [
        broken("Hosts", f"{host}, which {_needs(names)}, is none of CAMPAIGNS_ALLOWED_HOSTS", remedy)
        for host, names in needed_by.items()
    ]


def _needs(campaigns: Sequence[str]) -> str:
    return f"{_named(campaigns)} {'needs' if len(campaigns) == 1 else 'need'}"


async def check_secrets(
    client: PrefectClient, settings: Settings, campaigns: Iterable[Campaign], *, to_come: Collection[str] = ()
) -> list[Finding]:
    """See whether each secret that a campaign refers to is a block on the server, or a variable that it may be.

    Args:
        to_come: names of blocks that need not be there yet.
    """
    needed_by: dict[str, tuple[SecretReference, list[str]]] = {}
    for campaign in campaigns:
        for step in campaign.steps:
            for reference in (*secrets_in(step.headers), *secrets_in(step.params)):
                _, names = needed_by.setdefault(reference.name, (reference, []))
                if campaign.slug not in names:
                    names.append(campaign.slug)
    if not needed_by:
        return []
    there = {*to_come} | await _blocks(client, sorted({reference.block_name for reference, _ in needed_by.values()}))
    findings = []
    for reference, names in needed_by.values():
        if reference.block_name not in there and (finding := _missing(reference, names, settings)):
            findings.append(finding)
    count = f"{len(needed_by)} secret{'s' * (len(needed_by) != 1)}"
    return findings or [well("Secrets", f"there: {count} that campaigns refer to")]


async def _blocks(client: PrefectClient, names: Sequence[str]) -> set[str]:
    """Return which of these Secret blocks the server has; what they hold is not asked for."""
    found: set[str] = set()
    for start in range(0, len(names), BLOCKS_AT_ONCE):
        wanted = {
            "block_documents": {"name": {"any_": names[start : start + BLOCKS_AT_ONCE]}},
            "block_types": {"slug": {"any_": ["secret"]}},
            "include_secrets": False,
        }
        answer = await client.request("POST", "/block_documents/filter", json=wanted)
        found.update(document["name"] for document in answer.json())
    return found


def _missing(reference: SecretReference, names: Sequence[str], settings: Settings) -> Finding | None:
    """Return what is the matter with a secret that is no block; None where a variable of this machine stands for it."""
    needs = _needs(names)
    if reference.name not in settings.secret_variables:
        return broken(
            "Secrets",
            f"{reference.text}, which {needs}, is nowhere",
            f"create the Secret block {reference.block_name} in the Prefect UI",
        )
    if not os.environ.get(reference.name):
        return doubtful(
            "Secrets",
            f"{reference.text}, which {needs}, is no block, and the variable is not set here",
            "see whether it is set where the worker runs",
        )
    return None


def check_stop(stop: Stop) -> Finding:
    """Say that somebody has stopped everything."""
    return doubtful(
        "Stop",
        f"everything is stopped since {stop.since:%Y-%m-%d %H:%M} UTC, by {stop.by}: {stop.reason}",
        "when that is over: campaigns start --all",
    )


def check_api_keys(settings: Settings) -> list[Finding]:
    """Look for keys of the REST API that could be guessed."""
    if settings.campaigns_api_key is None:
        return []
    weak = [key.name for key in settings.api_keys if key.is_guessable]
    if not weak:
        return [well("API keys", f"{len(settings.api_keys)} of the REST API, none of them short")]
    return [
        doubtful(
            "API keys",
            f"those of the REST API that are named {_named(weak)} can be guessed",
            "take others from: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    ]
