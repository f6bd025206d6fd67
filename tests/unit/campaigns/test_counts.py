import pytest

from prefect_campaigns.counts import read_counts


@pytest.mark.parametrize(
    ("engine", "sends", "result", "expected"),
    [
        # the table, engine by engine
        (
            "prospecting",
            False,
            {"found": 20, "verified": 16},
            {"prospects_generated": 20, "prospects_verified": 16},
        ),
        ("prospecting", False, {"count": 7}, {"prospects_generated": 7}),
        ("prospecting", False, {"prospectsFound": 7}, {"prospects_generated": 7}),
        ("prospecting", False, {"saved": 7}, {"prospects_generated": 7}),
        (
            "analysis",
            False,
            {"analyzed": 20, "gradeA": 6, "gradeB": 10, "gradeC": 4},
            {"leads_analyzed": 20, "grade_a": 6, "grade_b": 10, "grade_c": 4},
        ),
        ("analysis", False, {"count": 20}, {"leads_analyzed": 20}),
        (
            "outreach",
            False,
            {"composed": 20, "ready": 18, "avgQuality": 87.5},
            {"emails_composed": 20, "emails_ready": 18, "avg_quality": 87.5},
        ),
        (
            "outreach",
            False,
            {"count": 3, "averageQuality": 80},
            {"emails_composed": 3, "avg_quality": 80},
        ),
        (
            "sender",
            True,
            {"sent": 18, "failed": 1, "queued": 1},
            {"emails_sent": 18, "emails_failed": 1, "emails_queued": 1},
        ),
        ("sender", False, {"count": 18}, {"emails_sent": 18}),
        # the outreach engine sends, too
        ("outreach", True, {"sent": 5}, {"emails_sent": 5}),
        # so may an engine nobody has heard of; otherwise it counts nothing
        ("carrier-pigeons", True, {"sent": 5, "found": 2}, {"emails_sent": 5}),
        ("carrier-pigeons", False, {"sent": 5, "found": 2, "count": 3}, {}),
        # the first key that holds a count wins
        ("prospecting", False, {"saved": 1, "count": 2, "found": 3}, {"prospects_generated": 3}),
        ("prospecting", False, {"found": None, "count": 2}, {"prospects_generated": 2}),
        ("prospecting", False, {"found": "many", "count": 2}, {"prospects_generated": 2}),
        # none is a count
        ("prospecting", False, {"found": 0}, {"prospects_generated": 0}),
        # a list counts its items
        ("prospecting", False, {"found": [{"company": "A"}, {"company": "B"}]}, {"prospects_generated": 2}),
        ("sender", True, {"sent": [], "failed": ["x"]}, {"emails_sent": 0, "emails_failed": 1}),
        # numeric strings are numbers
        ("prospecting", False, {"found": "20"}, {"prospects_generated": 20}),
        # under results, where the top has nothing
        ("prospecting", False, {"results": {"found": 4}}, {"prospects_generated": 4}),
        (
            "prospecting",
            False,
            {"found": 5, "results": {"found": 4, "verified": 3}},
            {"prospects_generated": 5, "prospects_verified": 3},
        ),
    ],
)
def test_counts_are_read_as_the_engines_name_them(
    engine: str, sends: bool, result: object, expected: dict[str, float]
) -> None:
    assert read_counts(engine, sends, result) == expected


@pytest.mark.parametrize(
    "garbage",
    [-1, True, float("nan"), float("inf"), 10**400, "", "nan", "1,5", {"a": 1}, None],
)
def test_what_is_no_count_is_ignored(garbage: object) -> None:
    assert read_counts("prospecting", False, {"found": garbage, "verified": 1}) == {"prospects_verified": 1}


@pytest.mark.parametrize("result", [None, [], [1], "found", 5, {"results": 5}])
def test_a_result_of_any_shape_is_read_without_an_error(result: object) -> None:
    assert read_counts("prospecting", False, result) == {}
