"""What is left of the words of a run when what engines said goes, or one person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect_campaigns.blocks.store_personal_data import RunWords
from prefect_campaigns.blocks.values import json_text, json_value
from prefect_campaigns.personal_data import Address

REMOVED = "[removed]"
"""What stands where a run's message or a step's error stood."""

_SAID = ("result", "warnings", "error")
_COUNTED = ("status", "cost", "counts")
"""What a run from before keeps of a step."""


def cleared(words: RunWords) -> RunWords:
    """Return the words of a run without anything that an engine said; counts stay, and what no engine said."""
    return replace(
        words,
        message=words.message and REMOVED,
        steps={name: json_text(cleared_step(json_value(detail))) for name, detail in words.steps.items()},
        earlier={name: _rewritten(text, _counted) for name, text in words.earlier.items()},
    )


def _counted(value: Any) -> Any:
    """Return what was counted, and what it cost, of the results of a run from before; of its errors nothing."""
    if not isinstance(value, dict):
        return []
    steps = {name: step for name, step in value.items() if isinstance(step, dict)}
    return {name: {key: step[key] for key in _COUNTED if key in step} for name, step in steps.items()}


def cleared_step(step: dict[str, Any]) -> dict[str, Any]:
    """Return a step, as JSON has it, without anything that an engine said."""
    return {**step, "result": None, "warnings": [], "error": step.get("error") and REMOVED}


def without(words: RunWords, address: Address) -> RunWords:
    """Return the words of a run without a person."""
    return replace(
        words,
        message=address.without(words.message),
        steps={name: _rewritten(text, lambda step: step_without(step, address)) for name, text in words.steps.items()},
        earlier={name: _rewritten(text, address.without) for name, text in words.earlier.items()},
    )


def _rewritten(text: str, change: Callable[[Any], Any]) -> str:
    """Return JSON with the change; as it is written, where nothing changes: others may have written it otherwise."""
    before = json_value(text)
    after = change(before)
    return text if after == before else json_text(after)


def step_without(step: dict[str, Any], address: Address) -> dict[str, Any]:
    """Return a step, as JSON has it, in whose result, warnings and error nothing of a person is left."""
    return {**step, **{name: address.without(step[name]) for name in _SAID if name in step}}
