"""How the stores write values: instants, amounts, what an engine said, and what somebody did."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from prefect_campaigns.errors import StoreError
from prefect_campaigns.money import MAX_DOLLARS, to_micros

_DECIMAL, _OBJECT = "$decimal", "$object"


def instant_text(instant: datetime) -> str:
    """Return the instant as UTC text of one fixed width, so that texts sort as instants do.

    Raises:
        ValueError: it is naive.
    """
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} needs a timezone")
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def optional_instant_text(instant: datetime | None) -> str | None:
    """Return what ``instant_text`` does, and None for None."""
    return None if instant is None else instant_text(instant)


def instant(text: str) -> datetime:
    """Return the instant, aware and in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def optional_instant(text: str | None) -> datetime | None:
    """Return what ``instant`` does, and None for None."""
    return None if text is None else instant(text)


def amount_micros(amount: Decimal) -> int:
    """Return an amount that may go into the books, in millionths of a dollar.

    Raises:
        StoreError: it is negative, no number, or more than any campaign may cost.
    """
    if not amount.is_finite() or not 0 <= amount <= MAX_DOLLARS:
        raise StoreError(f"{amount} cannot be booked; an amount in US dollars is between 0 and {MAX_DOLLARS:,}")
    return to_micros(amount)


def storable_text(text: str) -> str:
    """Return the text without lone surrogates, which an engine's JSON may hold and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def json_text(value: Any) -> str:
    """Return JSON from which ``json_value`` makes the same value, Decimals and lone surrogates included."""
    return json.dumps(_tagged(value))


def json_value(text: str) -> Any:
    """Return the value that ``json_text`` was given."""
    return _untagged(json.loads(text))


def _tagged(value: Any) -> Any:
    """Write a Decimal as ``{"$decimal": "0.10"}``, and wrap an object that would be mistaken for one."""
    if isinstance(value, Decimal):
        return {_DECIMAL: str(value)}
    if isinstance(value, dict):
        tagged = {key: _tagged(item) for key, item in value.items()}
        return {_OBJECT: tagged} if tagged.keys() in ({_DECIMAL}, {_OBJECT}) else tagged
    if isinstance(value, (list, tuple)):
        return [_tagged(item) for item in value]
    return value


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_DECIMAL}:
        return Decimal(value[_DECIMAL])
    inner = value[_OBJECT] if value.keys() == {_OBJECT} else value
    return {key: _untagged(item) for key, item in inner.items()}
