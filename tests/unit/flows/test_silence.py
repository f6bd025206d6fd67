"""Who is silent, by our own looks."""

from __future__ import annotations

from prefect_campaigns.flows.silence import Watch


class Seconds:
    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return self.passed


def test_one_is_silent_that_has_said_nothing_new_for_long_enough() -> None:
    clock = Seconds()
    watch = Watch(30, clock=clock)
    assert not watch.is_silent("a")
    for clock.passed in (0, 10, 20, 29.9):
        watch.look({"a": "word"})
        assert not watch.is_silent("a")
    clock.passed = 30
    watch.look({"a": "word"})
    assert watch.is_silent("a")


def test_whoever_says_something_new_is_watched_anew() -> None:
    clock = Seconds()
    watch = Watch(30, clock=clock)
    watch.look({"a": 1, "b": 1})
    clock.passed = 20
    watch.look({"a": 2, "b": 1})
    clock.passed = 40
    watch.look({"a": 2, "b": 1})
    assert (watch.is_silent("a"), watch.is_silent("b")) == (False, True)


def test_whoever_was_away_or_could_not_be_heard_is_watched_anew() -> None:
    clock = Seconds()
    watch = Watch(30, clock=clock)
    watch.look({"a": 1, "b": 1})
    clock.passed = 40
    watch.look({"b": 1})
    watch.look({"a": 1, "b": 1})
    assert (watch.is_silent("a"), watch.is_silent("b")) == (False, True)
    watch.forget()
    watch.look({"b": 1})
    assert not watch.is_silent("b")
