"""Handing back a run whose worker stops."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_campaigns.flows import leaving


async def test_a_run_that_cannot_be_handed_back_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaving, "get_run_logger", lambda: logging.getLogger("of the run"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert await leaving.hand_back_at_the_end(uuid4()) is False
    assert "The run could not be handed back: " in caplog.text
