"""Money is exact to the millionth of a dollar."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from prefect_campaigns.money import Money, format_money, from_micros, to_micros

MONEY: TypeAdapter[Decimal] = TypeAdapter(Money)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        (5, "5"),  # whole dollars
        (0, "0"),  # nothing, which is not the same as no limit
        (0.1, "0.1"),  # a float as it was written, not as it is stored
        (Decimal("0.000001"), "0.000001"),  # the least there is
        ("12.50", "12.50"),  # a string, as a flow run's parameters have it
        (Decimal("1E+3"), "1000"),  # an exponent
        (1_000_000_000, "1000000000"),  # the most there is
    ],
)
def test_amounts_are_taken_as_they_are_written(written: Any, amount: str) -> None:
    assert MONEY.validate_python(written) == Decimal(amount)


@pytest.mark.parametrize(
    "written",
    [
        True,  # no number in JSON
        None,  # absent is something else
        "lots",
        "",
        [5],
        -0.01,
        float("nan"),
        float("inf"),
        "NaN",
        "Infinity",
        Decimal("0.0000001"),  # finer than the books
        1_000_000_001,  # more than anyone has
    ],
)
def test_what_is_no_amount_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        MONEY.validate_python(written)


@given(st.integers(0, 10**15))
def test_every_amount_survives_the_books_and_the_way_through_json(micros: int) -> None:
    amount = from_micros(micros)
    assert to_micros(amount) == micros
    assert MONEY.validate_json(MONEY.dump_json(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "micros"),
    [
        ("0.024", 24_000),
        ("0.0000001", 1),  # finer than a millionth is booked as one
        ("0.0000011", 2),
        ("0", 0),
    ],
)
def test_the_books_round_up(amount: str, micros: int) -> None:
    assert to_micros(Decimal(amount)) == micros


@pytest.mark.parametrize(
    ("amount", "text"),
    [("5", "5.00"), ("0.024", "0.024"), ("0.000001", "0.000001"), ("1E+2", "100.00"), ("0.10", "0.10"), ("0", "0.00")],
)
def test_amounts_are_shown_with_two_to_six_places(amount: str, text: str) -> None:
    assert format_money(Decimal(amount)) == text
