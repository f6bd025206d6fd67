"""What a request cost, read from what the engine said.

Amounts arrive as JSON numbers, which are floats by then: a float gives back every digit it was written with, up to
fifteen of them, and that is a billion dollars to the millionth. Nothing is rounded here; the books round up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext
from typing import Any

from prefect_campaigns.errors import InvalidCost
from prefect_campaigns.money import MAX_DOLLARS

COST_KEYS = ("cost", "totalCost", "total_cost")
"""Where engines report what a request cost, the first that is there; an object ``costs`` comes last."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_MAX_NUMBER_LENGTH = 100
_ALLOWED = f"a cost is a number of US dollars from 0 to {MAX_DOLLARS:,}"


def read_cost(payload: Any, *, cost_path: str | None) -> Decimal | None:
    """Return what the engine says the request cost, in US dollars, or None when it says nothing.

    Read are ``cost``, else ``totalCost``, else ``total_cost``, else the sum of the object ``costs``; at the top of
    the payload, else under its ``results``. A null is nothing.

    Args:
        payload: an engine's result, or what a failed request left behind.
        cost_path: a dotted path (``usage.totalUsd``, ``items.0.cost``) that overrules all of these wherever it leads
            to something. Where it does not, as in the body of an error, the usual places are read: money is rather
            booked from the wrong place than not at all.

    Raises:
        InvalidCost: what is there is negative, not finite, absurdly large, or no number.
    """
    places = list(_places(payload))
    if cost_path is not None:
        for where, place in places:
            found = _follow(place, cost_path)
            if found is not None:
                return _read_value(found, where=f"{where}{cost_path}", payload=payload)
    for where, place in places:
        for key in (*COST_KEYS, "costs"):
            if isinstance(place, Mapping) and place.get(key) is not None:
                return _read_value(place[key], where=f"{where}{key}", payload=payload, summed=key == "costs")
    return None


def read_amount(value: Any, *, where: str = "cost", payload: Any = None) -> Decimal:
    """Return a number or numeric string as an amount in US dollars, exactly.

    Raises:
        InvalidCost: it is none.
    """
    amount: Decimal | None = None
    if isinstance(value, Decimal):
        amount = value
    elif isinstance(value, int) and not isinstance(value, bool):
        amount = Decimal(value)
    elif isinstance(value, float) and math.isfinite(value):
        amount = Decimal(repr(value))
    elif isinstance(value, str) and len(value) <= _MAX_NUMBER_LENGTH and _NUMBER.fullmatch(value.strip()):
        amount = Decimal(value.strip())
    if amount is None or not amount.is_finite() or amount < 0 or amount > MAX_DOLLARS:
        raise InvalidCost(f"the engine reported {_show(value)} as {where}; {_ALLOWED}", payload=payload)
    return amount if amount else Decimal(0)


def _places(payload: Any) -> Iterator[tuple[str, Any]]:
    yield "", payload
    if isinstance(payload, Mapping) and payload.get("results") is not None:
        yield "results.", payload["results"]


def _follow(value: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 10:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _read_value(value: Any, *, where: str, payload: Any, summed: bool = True) -> Decimal | None:
    if not (summed and isinstance(value, Mapping)):
        return read_amount(value, where=where, payload=payload)
    amounts = [
        read_amount(amount, where=f"{where}.{name}", payload=payload)
        for name, amount in value.items()
        if amount is not None
    ]
    if not amounts:
        return None
    with localcontext(prec=200):
        # A sum of one amount after the other would round to the context's 28 digits.
        total = sum(amounts, Decimal(0))
    return read_amount(total, where=where, payload=payload)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
