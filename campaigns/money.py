"""Money: US dollars as Decimal, exact to six places, never a float."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

MICROS_PER_DOLLAR = 1_000_000
MAX_DOLLARS = Decimal(1_000_000_000)
_MICRO = Decimal("0.000001")


def to_micros(amount: Decimal) -> int:
    """Return the amount in millionths of a dollar, rounded up where it is finer than that.

    Rounding up keeps the books on the safe side: an engine that charges less than a millionth is booked at one.
    """
    return int((amount * MICROS_PER_DOLLAR).to_integral_value(rounding="ROUND_CEILING"))


def from_micros(micros: int) -> Decimal:
    """Return millionths of a dollar as dollars with six places."""
    return (Decimal(micros) / MICROS_PER_DOLLAR).quantize(_MICRO)


def format_money(amount: Decimal) -> str:
    """Return dollars with at least two and at most six places: ``5.00``, ``0.024``, ``0.000001``."""
    text = f"{amount.quantize(_MICRO):f}"
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


def _validate_money(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise ValueError("an amount in US dollars is a number such as 5 or 0.024")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("an amount in US dollars is a number such as 5 or 0.024") from None
    if not amount.is_finite():
        raise ValueError("an amount in US dollars is a finite number")
    if amount < 0:
        raise ValueError("an amount in US dollars is not negative")
    if amount > MAX_DOLLARS:
        raise ValueError(f"an amount in US dollars is at most {MAX_DOLLARS:,}")
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -6:
        raise ValueError("an amount in US dollars has at most six decimals")
    return amount


Money = Annotated[
    Decimal,
    BeforeValidator(_validate_money),
    # A string in JSON mode keeps every digit on the way through a flow run's parameters.
    PlainSerializer(format_money, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": int(MAX_DOLLARS)},
                {"type": "string", "pattern": r"^\d+(\.\d{1,6})?$"},
            ]
        }
    ),
]
"""US dollars: a finite, non-negative number with at most six decimals."""
