"""What ``campaigns purge`` and ``campaigns erase`` do. Their help stands in ``driving_help``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.markup import escape

from prefect_campaigns.blocks.settings import Settings, load_settings
from prefect_campaigns.blocks.settings_checks import MAX_RETENTION_DAYS, MIN_RETENTION_DAYS
from prefect_campaigns.blocks.store_types import AuditAction
from prefect_campaigns.clock import current_clock
from prefect_campaigns.deployments.cli.asking import agreed
from prefect_campaigns.deployments.cli.main import EXIT_FAILED, EXIT_OK, AsJson, err, error_json, print_json, say
from prefect_campaigns.deployments.cli.run_commands import at_work
from prefect_campaigns.deployments.driving.audit import local_actor
from prefect_campaigns.deployments.driving.audit import record as record_audit
from prefect_campaigns.deployments.personal_data.removing import OnDisk, Removed, Say, erase, purge
from prefect_campaigns.errors import UsageError
from prefect_campaigns.personal_data import Address

_AGE = re.compile(r"(\d{1,5}) ?(d|w)")
_DAYS = {"d": 1, "w": 7}


async def purge_command(*, older_than: str | None = None, yes: bool = False, json: AsJson = False) -> int:
    """Remove what is old.

    Parameters
    ----------
    older_than
        180d or 26w; by default what CAMPAIGNS_RETENTION_DAYS says.
    yes
        Do it without asking.
    """
    settings = load_settings()
    now = current_clock().now()
    before = now - _age(older_than, settings)
    question = f"Remove what engines said in all runs that ended before {before:%Y-%m-%d %H:%M} UTC?"
    if not await _is_agreed(question, yes=yes, as_json=json):
        return EXIT_FAILED
    async with at_work() as (client, store):
        with _showing_progress() as progress:
            removed = await purge(client, store, settings, before=before, say=progress)
        await record_audit(
            client,
            store,
            actor=local_actor(),
            action=AuditAction.DATA_PURGED,
            detail={"before": before.isoformat(), **_counts_json(removed)},
        )
    return _finish([removed], "campaigns purge", as_json=json)


def _age(text: str | None, settings: Settings) -> timedelta:
    if text is None:
        if settings.campaigns_retention_days is None:
            raise UsageError(
                "how old? Say it, as in campaigns purge --older-than 180d, or set CAMPAIGNS_RETENTION_DAYS"
            )
        return timedelta(days=settings.campaigns_retention_days)
    found = _AGE.fullmatch(text.strip().lower())
    days = int(found[1]) * _DAYS[found[2]] if found else 0
    if not MIN_RETENTION_DAYS <= days <= MAX_RETENTION_DAYS:
        raise UsageError(
            f"--older-than {text} cannot be used; allowed are days and weeks, such as 180d and 26w, from"
            f" {MIN_RETENTION_DAYS} to {MAX_RETENTION_DAYS:,} days"
        )
    return timedelta(days=days)


async def erase_command(*, email: Sequence[str] = (), yes: bool = False, json: AsJson = False) -> int:
    """Remove a person.

    Parameters
    ----------
    email
        The person's address; repeatable.
    yes
        Do it without asking.
    """
    addresses = _addresses(email)
    settings = load_settings()
    named = " and ".join(escape(address.text) for address in addresses)
    if not await _is_agreed(f"Remove {named} from all that engines said?", yes=yes, as_json=json):
        return EXIT_FAILED
    everything = []
    async with at_work() as (client, store):
        for address in addresses:
            with _showing_progress() as progress:
                removed = await erase(client, store, settings, address, now=current_clock().now(), say=progress)
            everything.append(removed)
            # Whom it was about is written down nowhere.
            detail = _counts_json(removed)
            await record_audit(client, store, actor=local_actor(), action=AuditAction.DATA_ERASED, detail=detail)
    return _finish(everything, "campaigns erase", as_json=json)


def _addresses(texts: Sequence[str]) -> list[Address]:
    if not texts:
        raise UsageError("whom? campaigns erase --email bob@example.com")
    addresses, problems = [], []
    for text in texts:
        try:
            addresses.append(Address(text))
        except ValueError as error:
            problems.append(f"--email {error}")
    if problems:
        raise UsageError("\n".join(problems))
    return addresses


async def _is_agreed(question: str, *, yes: bool, as_json: bool) -> bool:
    otherwise = "what is removed cannot be had back; add --yes to do it"
    if yes or await agreed(question, otherwise=otherwise, may_ask=not as_json):
        return True
    say("Nothing was changed.")
    return False


@contextmanager
def _showing_progress() -> Iterator[Say]:
    if not err.is_terminal:
        yield lambda what: None
        return
    with err.status("Looking") as status:
        yield lambda what: status.update(f"Removing from {escape(what)}")


def _finish(everything: Sequence[Removed], command: str, *, as_json: bool) -> int:
    again = list(dict.fromkeys(line for one in everything for line in one.again))
    kept = list(dict.fromkeys(line for one in everything for line in one.kept))
    total = _sum(everything)
    if as_json:
        body = {**_counts_json(total), "again": again, "kept": kept}
        print_json({"success": not again, **error_json(again), **body})
        return EXIT_FAILED if again else EXIT_OK
    say(f"[green]✓[/] Removed {total.describe()}." if total else "[green]✓[/] There was nothing to remove.")
    if total.runs or total.disk.answers:
        say("  What was counted and what it cost stays in the books.")
    for line in kept:
        say(f"[yellow]![/] {escape(line)}.")
    for line in again:
        say(f"[red]✗[/] {escape(line)}.", to=err)
    if again:
        say(f"  What is left of it goes with {command} once more.", to=err)
    return EXIT_FAILED if again else EXIT_OK


def _sum(everything: Sequence[Removed]) -> Removed:
    disks = [one.disk for one in everything]
    return Removed(
        runs=sum(one.runs for one in everything),
        mails=sum(one.mails for one in everything),
        prefect_runs=sum(one.prefect_runs for one in everything),
        disk=OnDisk(
            results=sum(one.results for one in disks),
            answers=sum(one.answers for one in disks),
            log_lines=sum(one.log_lines for one in disks),
        ),
    )


def _counts_json(removed: Removed) -> dict[str, Any]:
    return {
        "runs": removed.runs,
        "mails": removed.mails,
        "prefectRuns": removed.prefect_runs,
        "taskResults": removed.disk.results,
        "unsettledAnswers": removed.disk.answers,
        "logLines": removed.disk.log_lines,
    }
