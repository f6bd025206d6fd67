"""SECURITY.md names tests that are there, and every secret setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefect_campaigns.blocks.settings import secret_names

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
TESTS = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)


@pytest.mark.parametrize("test", TESTS)
def test_what_is_said_is_held_by_a_test_that_is_there(test: str) -> None:
    assert "def test_" in (ROOT / test).read_text("utf-8")


def test_every_secret_setting_is_named_with_what_it_opens() -> None:
    assert {name for name in secret_names() if f"`{name}`" not in PAGE} == set()


def test_every_page_it_points_to_is_there() -> None:
    for page, _, part in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", PAGE)):
        text = (ROOT / page).read_text("utf-8") if page else PAGE
        headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in text.splitlines()}
        assert not part or part in headings, (page, part)
