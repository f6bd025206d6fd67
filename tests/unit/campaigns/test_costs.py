import json
from decimal import Decimal

import pytest

from prefect_campaigns.costs import read_cost
from prefect_campaigns.errors import CampaignsError, InvalidCost


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"cost": 0.024}, "0.024"),  # ten prospects
        ({"cost": 0.002}, "0.002"),  # one composed email
        ({"cost": 0.1}, "0.1"),  # a float that is no tenth, but was written as one
        ({"cost": 999999999.123457}, "999999999.123457"),  # fifteen digits survive a float
        ({"cost": 1e-7}, "1E-7"),  # finer than a millionth stays as it is; the books round up
        ({"cost": 3}, "3"),  # an int
        ({"cost": 0}, "0"),  # free is not the same as unreported
        ({"cost": -0.0}, "0"),  # and has no sign
        ({"cost": "0.024"}, "0.024"),  # a numeric string
        ({"cost": " 1.5e-2 "}, "0.015"),  # with blanks and an exponent
        ({"cost": Decimal("0.000001")}, "0.000001"),  # a decimal
        ({"totalCost": 0.5}, "0.5"),
        ({"total_cost": 0.5}, "0.5"),
        ({"total_cost": 1, "totalCost": 2, "cost": 3}, "3"),  # cost comes first
        ({"total_cost": 1, "totalCost": 2}, "2"),  # then totalCost
        ({"cost": None, "totalCost": 2}, "2"),  # null is nothing
        ({"results": {"cost": 0.25}}, "0.25"),  # under results
        ({"totalCost": 1, "results": {"cost": 2}}, "1"),  # the top overrules results
        ({"costs": {"search": 0.1, "llm": "0.2", "mail": None}}, "0.3"),  # a sum, exact
        ({"results": {"costs": {"a": 1, "b": 2}}}, "3"),
        ({"cost": 5, "costs": {"a": 1}}, "5"),  # an amount overrules a sum
    ],
)
def test_a_reported_cost_is_read_with_every_digit(payload: object, expected: str) -> None:
    cost = read_cost(payload, cost_path=None)
    assert str(cost) == str(Decimal(expected))


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"found": 20},
        {"cost": None},
        {"results": None},
        {"results": [1, 2]},
        {"costs": {}},  # nothing to add up
        {"costs": {"search": None}},
        [],
        [{"cost": 1}],
        None,
        "cost",
        7,
    ],
)
def test_an_engine_that_reports_no_cost_is_not_read_as_free(payload: object) -> None:
    assert read_cost(payload, cost_path=None) is None


@pytest.mark.parametrize(
    "value",
    [
        -0.01,
        "-1",
        float("nan"),
        float("inf"),
        "NaN",  # how the exchange hands on a NaN in JSON
        "Infinity",
        Decimal("sNaN"),
        True,  # a bool is no number
        "",
        "free",
        "$0.02",
        "0.02 USD",
        "1,50",
        "1_000",
        "\uff11",  # a digit, of another script
        "9" * 200,
        1_000_000_001,  # a billion dollars is the most
        1e300,
        "1e999999",
        [0.1],
        {"amount": 0.1},
    ],
)
def test_a_cost_that_is_no_amount_is_an_error_that_says_what_came(value: object) -> None:
    payload = {"cost": value}
    with pytest.raises(InvalidCost, match="as cost; a cost is a number of US dollars from 0 to") as caught:
        read_cost(payload, cost_path=None)
    assert caught.value.payload is payload
    assert len(str(caught.value)) < 200


def test_an_invalid_cost_is_ambiguous_and_not_worth_repeating() -> None:
    with pytest.raises(CampaignsError) as caught:
        read_cost({"costs": {"a": 1, "b": -1}}, cost_path=None)
    assert isinstance(caught.value, InvalidCost)
    assert "costs.b" in str(caught.value)
    assert caught.value.ambiguous
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("usage.totalUsd", "0.7"),
        ("items.1.cost", "0.2"),  # an index into a list
        ("usage", "0.7"),  # an object of amounts is their sum
        ("items.9.cost", "9"),  # leads nowhere: the usual place
        ("items.x.cost", "9"),
        ("nowhere.at.all", "9"),
        ("usage.totalUsd.deeper", "9"),
        ("nested", "4"),  # found under results, as in the payload of a failed stream
    ],
)
def test_a_cost_path_overrules_wherever_it_leads_to_something(path: str, expected: str) -> None:
    payload = {
        "cost": 9,
        "usage": {"totalUsd": 0.7},
        "items": [{"cost": 0.1}, {"cost": 0.2}],
        "results": {"nested": 4},
    }
    assert read_cost(payload, cost_path=path) == Decimal(expected)


def test_a_cost_path_to_garbage_is_an_error_that_names_the_path() -> None:
    with pytest.raises(InvalidCost, match=r"usage\.usd"):
        read_cost({"cost": 1, "usage": {"usd": "a lot"}}, cost_path="usage.usd")


def test_fifteen_digits_come_back_from_json() -> None:
    for cents in range(0, 100_000, 37):
        text = f"0.{cents:06}"
        assert read_cost(json.loads(f'{{"cost": {text}}}'), cost_path=None) == Decimal(text)
