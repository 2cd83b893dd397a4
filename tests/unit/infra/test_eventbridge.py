from datetime import UTC, datetime
from typing import Any

import pytest

from clickstream_source.invocation import read_invocation
from infra.local.eventbridge import Schedule, scheduled_event

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC).timestamp()


class Clock:
    """A clock that goes on only while somebody waits, or as a handler takes its time."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Calls:
    """A handler that notes each call as (seconds since noon, the event's time) and fails when told to."""

    def __init__(self, clock: Clock, *, failing: int = 0, takes_seconds: float = 0) -> None:
        self.clock, self.failing, self.takes_seconds = clock, failing, takes_seconds
        self.seen: list[tuple[float, str]] = []

    def __call__(self, event: dict[str, Any], context: object) -> object:
        assert getattr(context, "aws_request_id", "")
        self.seen.append((self.clock.now - NOON, event["time"][11:19]))
        self.clock.now += self.takes_seconds
        if len(self.seen) <= self.failing:
            raise ConnectionError("the broker is away")
        return {}


def run(clock: Clock, calls: Calls, minutes: int) -> list[tuple[float, str]]:
    Schedule(calls, minutes=minutes, clock=clock, wait=clock.wait).run()
    return calls.seen


def test_the_handler_accepts_the_event_and_reads_its_minute() -> None:
    minute = datetime(2026, 11, 22, 12, 1, tzinfo=UTC)
    assert read_invocation(scheduled_event(minute)).minute == minute


def test_every_minute_is_called_at_its_start() -> None:
    clock = Clock(NOON + 12.5)
    assert run(clock, Calls(clock), 3) == [(60, "12:01:00"), (120, "12:02:00"), (180, "12:03:00")]


def test_a_failed_call_is_repeated_after_one_and_two_minutes_with_the_same_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock(NOON)
    seen = run(clock, Calls(clock, failing=3), 1)
    assert seen == [(60, "12:01:00"), (120, "12:01:00"), (240, "12:01:00")]
    assert "FAILED after 3 calls" in caplog.text


def test_a_failure_does_not_stop_the_schedule() -> None:
    clock = Clock(NOON)
    seen = run(clock, Calls(clock, failing=1), 2)
    assert sorted(seen) == [(60, "12:01:00"), (120, "12:01:00"), (120, "12:02:00")]


def test_a_slow_call_delays_the_next_minute_but_drops_none() -> None:
    clock = Clock(NOON)
    seen = run(clock, Calls(clock, takes_seconds=70), 3)
    assert [minute for _, minute in seen] == ["12:01:00", "12:02:00", "12:03:00"]


def test_minutes_in_which_the_machine_slept_are_left_out() -> None:
    clock = Clock(NOON)
    seen = run(clock, Calls(clock, takes_seconds=600), 3)
    assert [minute for _, minute in seen] == ["12:01:00", "12:02:00", "12:11:00"]
