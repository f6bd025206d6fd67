"""Requests that are booked at their estimate because nobody knows what they cost: listed, and settled by a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.markup import escape

from prefect_campaigns.blocks.store import CampaignStore
from prefect_campaigns.blocks.store_types import AuditAction, CampaignRecord, Reservation
from prefect_campaigns.deployments.cli.main import EXIT_OK, out, print_json, say
from prefect_campaigns.deployments.cli.printing import SHOWN_ID, plain_table
from prefect_campaigns.deployments.driving.audit import local_actor, record_beside
from prefect_campaigns.errors import StoreError
from prefect_campaigns.instants import local_time
from prefect_campaigns.money import format_money
from prefect_campaigns.words import nearest


@dataclass(frozen=True)
class _Unconfirmed:
    reservation: Reservation
    run_name: str | None

    @property
    def reference(self) -> str:
        return f"{self.run_name or self.reservation.run_id}/{self.reservation.step}/{self.reservation.attempt}"

    @property
    def names(self) -> tuple[str, ...]:
        """All that it may be called by."""
        step = f"{self.reservation.step}/{self.reservation.attempt}"
        run_id = self.reservation.run_id
        return self.reference, f"{run_id[:SHOWN_ID]}/{step}", f"{run_id}/{step}"


async def _read_unconfirmed(store: CampaignStore, key: str) -> list[_Unconfirmed]:
    found, run_names = [], dict[str, str | None]()
    for reservation in await store.unconfirmed(key):
        run_id = reservation.run_id
        if run_id not in run_names:
            run = await store.get_run(run_id)
            run_names[run_id] = run.run_name if run else None
        found.append(_Unconfirmed(reservation, run_names[run_id]))
    return found


async def list_unconfirmed(store: CampaignStore, record: CampaignRecord, *, as_json: bool) -> int:
    """Print what is unconfirmed, each with the reference by which it is settled; return the exit code."""
    found = await _read_unconfirmed(store, record.key)
    if as_json:
        print_json({"success": True, "count": len(found), "unconfirmed": [_unconfirmed_json(one) for one in found]})
        return EXIT_OK
    if not found:
        say(f"Nothing of {record.key} is unconfirmed: what every request cost is known.")
        return EXIT_OK
    zone = record.campaign.timezone
    now = (await store.budget_status(record.key)).at
    table = plain_table("Reference", "Run id", "Booked (USD)", f"When ({zone})", right=["Booked (USD)"])
    for one in found:
        reservation = one.reservation
        table.add_row(
            escape(one.reference),
            reservation.run_id[:SHOWN_ID],
            format_money(_booked(reservation)),
            local_time(reservation.reserved_at, zone, now=now),
        )
    out.print(table)
    out.print(
        f"\nWhen you know what one cost: campaigns budget {record.key} --settle REFERENCE --amount 0.05 --note …",
        soft_wrap=True,
    )
    return EXIT_OK


def _booked(reservation: Reservation) -> Decimal:
    return reservation.estimate if reservation.booked is None else reservation.booked


def _unconfirmed_json(one: _Unconfirmed) -> dict[str, Any]:
    reservation = one.reservation
    return {
        "reference": one.reference,
        "runId": reservation.run_id,
        "run": one.run_name,
        "step": reservation.step,
        "attempt": reservation.attempt,
        "booked": format_money(_booked(reservation)),
        "reservedAt": reservation.reserved_at.isoformat(),
    }


async def settle_unconfirmed(
    store: CampaignStore, record: CampaignRecord, reference: str, amount: Decimal, note: str, *, as_json: bool
) -> int:
    """Book what a person found out that a request cost, and print it; return the exit code.

    Raises:
        StoreError: the reference means nothing that is unconfirmed, or several.
    """
    one = _find(reference, await _read_unconfirmed(store, record.key), record.key)
    reservation = one.reservation
    corrected = await store.correct(
        record.key,
        run_id=reservation.run_id,
        step=reservation.step,
        attempt=reservation.attempt,
        amount=amount,
        by=local_actor(),
        note=note,
    )
    detail = {"reference": one.reference, "amount": format_money(amount), "was": format_money(_booked(reservation))}
    await record_beside(store, action=AuditAction.BOOKING_SETTLED, campaign_key=record.key, detail=detail)
    if as_json:
        print_json({"success": True, **_unconfirmed_json(_Unconfirmed(corrected, one.run_name)), "by": local_actor()})
        return EXIT_OK
    was = format_money(_booked(reservation))
    say(
        f"[green]✓[/] {escape(one.reference)} is booked at {format_money(_booked(corrected))}, and no longer at {was}."
        f" The ledger says that {escape(local_actor())} said so."
    )
    return EXIT_OK


def _find(reference: str, among: Sequence[_Unconfirmed], key: str) -> _Unconfirmed:
    matching = [one for one in among if reference.strip() in one.names]
    if len(matching) == 1:
        return matching[0]
    if matching:
        ids = " or ".join(one.names[1] for one in matching)
        raise StoreError(f"{reference!r} may be one of several requests; name it by its run's id: {ids}")
    if not among:
        raise StoreError(f"nothing of {key} is unconfirmed, and {reference!r} has been settled or never was")
    meant = nearest(reference, [one.reference for one in among])
    hint = f"did you mean {meant}? " if meant else ""
    raise StoreError(
        f"{reference!r} is not among what is unconfirmed; {hint}campaigns budget {key} --unconfirmed lists it"
    )
