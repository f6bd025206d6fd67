"""The stream of events in which an engine tells what it does, and at last its result."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from prefect_campaigns.costs import COST_KEYS
from prefect_campaigns.errors import EngineAnswerInvalid, EngineAnswerLost, EngineReportedFailure
from prefect_campaigns.flows.answers import failure_in
from prefect_campaigns.flows.bodies import chunks_of, parse_json, reading
from prefect_campaigns.flows.messages import OnProgress, engine_words, one_line, progress_from
from prefect_campaigns.flows.sse import SseDecoder, SseEvent, SseEventTooLarge

MAX_WARNINGS = 100
"""How many warnings of one stream are kept."""

_PROGRESS_TYPES = frozenset(
    {"started", "step_start", "step_complete", "progress", "company_processed", "company_complete"}
)
_COST_KEYS = frozenset({*COST_KEYS, "costs"})
_UNREADABLE = "\0unreadable"
"""The kind of an event that begins like an object and is none; no engine can name it by accident."""


class _Errors:
    """The ``error`` events of a stream: warnings if ``complete`` follows, the failure if it does not."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.dropped = 0
        self.payload: Mapping[str, Any] = {}

    def add(self, said: Mapping[str, Any]) -> None:
        if len(self.words) < MAX_WARNINGS:
            self.words.append(_error_words(said))
        else:
            self.dropped += 1
        # The latest tells most, but one that tells a cost is not given up for one that does not.
        if not (_COST_KEYS & self.payload.keys()) or _COST_KEYS & said.keys():
            self.payload = said

    def warnings(self) -> tuple[str, ...]:
        return (*self.words, *([f"and {self.dropped} more warnings"] if self.dropped else []))


async def read_stream(
    response: httpx.Response, *, where: str, report: OnProgress, max_event_bytes: int
) -> tuple[Any, tuple[str, ...]]:
    """Read a stream up to its ``complete`` event; return the result and the warnings.

    Nothing behind ``complete`` is waited for. Events that are no JSON object, and types nobody knows, are passed
    over, unless the last of them should have been an object; an event without a ``type`` in its data has the type of
    its ``event`` field.

    Raises:
        EngineReportedFailure: ``complete`` says ``success: false``, or there were errors and no ``complete``.
        EngineAnswerLost: the stream ended, or was cut, without ``complete``.
        EngineAnswerInvalid: an event is larger than ``max_event_bytes``, the last one is no usable JSON, or the stream
            does not decompress.
    """
    errors = _Errors()
    unreadable: str | None = None
    with reading(response, where):
        async with aclosing(_messages(response, where, max_event_bytes)) as messages:
            async for kind, said in messages:
                unreadable = str(said["why"]) if kind == _UNREADABLE else None
                if kind == "complete":
                    return _result(said, where=where, status_code=response.status_code), errors.warnings()
                if kind == "error":
                    errors.add(said)
                elif kind in _PROGRESS_TYPES:
                    await report(progress_from(said, fallback=kind.replace("_", " ")))
    if unreadable is not None:
        raise EngineAnswerInvalid(
            one_line(f"{where} ended its stream with an event that is no usable JSON: {unreadable}"),
            status_code=response.status_code,
        )
    if errors.words:
        raise EngineReportedFailure(
            one_line(f"{where} failed: {errors.words[-1]}"),
            payload=dict(errors.payload),
            status_code=response.status_code,
            # What it had done by then, and what that costs, only a complete event would have said.
            ambiguous=True,
        )
    raise EngineAnswerLost(
        f"{where} ended its stream of events without a complete event", status_code=response.status_code
    )


def last_message(body: bytes) -> Mapping[str, Any] | None:
    """Return the last message in a stream of events that was read as a whole: what a refusal says."""
    decoder = SseDecoder(max_event_bytes=len(body))
    events = [*decoder.feed(body), decoder.end()]
    messages = [message for event in events if event is not None and (message := _message(event)) is not None]
    return next((said for kind, said in reversed(messages) if kind != _UNREADABLE), None)


async def _messages(
    response: httpx.Response, where: str, max_event_bytes: int
) -> AsyncGenerator[tuple[str, Mapping[str, Any]]]:
    decoder = SseDecoder(max_event_bytes=max_event_bytes)
    async with chunks_of(response) as chunks:
        try:
            async for chunk in chunks:
                for event in decoder.feed(chunk):
                    if (message := _message(event)) is not None:
                        yield message
            last = decoder.end()
        except SseEventTooLarge as error:
            raise EngineAnswerInvalid(f"{where} sent {error}", status_code=response.status_code) from None
    # What cannot be read here was cut: it is no event at all.
    if last is not None and (message := _message(last)) is not None and message[0] != _UNREADABLE:
        yield message


def _message(event: SseEvent) -> tuple[str, Mapping[str, Any]] | None:
    try:
        said = parse_json(event.data)
    except ValueError as error:
        return (_UNREADABLE, {"why": error}) if event.data.lstrip().startswith("{") else None
    if not isinstance(said, dict):
        return None
    kind = said.get("type", event.event)
    return (kind, said) if isinstance(kind, str) else None


def _result(said: Mapping[str, Any], *, where: str, status_code: int) -> Any:
    """Return the result in a ``complete`` event: its ``results``, else the fields beside ``type``.

    A cost that stands beside ``results`` belongs to the result too, and overrules one within it.
    """
    fields = {key: value for key, value in said.items() if key != "type"}
    results = fields.get("results")
    failure = failure_in(fields) or failure_in(results)
    if failure is not None:
        raise EngineReportedFailure(one_line(f"{where} failed: {failure}"), payload=fields, status_code=status_code)
    if results is None:
        return fields
    cost = {key: value for key, value in fields.items() if key in _COST_KEYS and value is not None}
    if not cost:
        return results
    if not isinstance(results, dict):
        return fields
    return {key: value for key, value in results.items() if key not in _COST_KEYS} | cost


def _error_words(said: Mapping[str, Any]) -> str:
    words = engine_words(said) or "an error without a word"
    company = said.get("company")
    if isinstance(company, str) and company.strip() and company not in words:
        return one_line(f"{company}: {words}")
    return words
