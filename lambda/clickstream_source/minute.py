"""The events of one producer in one minute."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from clickstream_source.catalog import price_cents, product_id
from clickstream_source.event import Event
from clickstream_source.visitors import (
    MINUTE_MS,
    SESSION_MINUTES,
    Action,
    Shape,
    actions_of_session,
    mean_actions,
    seeded,
)

MINUTES_A_DAY = 1_440
_BUSIEST_MINUTE = 19 * 60
_EVENT_NAMESPACE = uuid5(NAMESPACE_URL, "clickstream-events")


def day_factor(minute_of_day: int, amplitude: float) -> float:
    """Weigh a minute of the UTC day: 1 + amplitude at 19:00, 1 - amplitude at 07:00, 1 on average."""
    angle = 2 * math.pi * (minute_of_day - _BUSIEST_MINUTE) / MINUTES_A_DAY
    return 1 + amplitude * math.cos(angle)


def events_of_minute(
    *,
    shape: Shape,
    producer_id: str,
    minute: datetime,
    events_per_minute: float,
    day_night_amplitude: float,
) -> list[Event]:
    """Make the events of a producer's minute; equal arguments give equal events.

    Args:
        shape: how visitors behave.
        producer_id: the producer, part of every seed and id.
        minute: start of the minute, in UTC.
        events_per_minute: the average over a day; the number of a minute fluctuates about its share.
        day_night_amplitude: 0 for the same rate at all hours, up to 1; see `day_factor`.

    Returns:
        Events in order of time, sequence 0, 1, 2, ...; every event time lies in the minute.
    """
    minute_ms = int(minute.astimezone(UTC).timestamp()) * 1_000
    actions: list[Action] = []
    for start_ms in range(minute_ms - (SESSION_MINUTES - 1) * MINUTE_MS, minute_ms + 1, MINUTE_MS):
        factor = day_factor(start_ms // MINUTE_MS % MINUTES_A_DAY, day_night_amplitude)
        sessions = events_per_minute * factor / mean_actions(shape)
        arrivals = _arrivals(shape.seed, producer_id, start_ms, sessions)
        for number, arrival_ms in enumerate(arrivals):
            actions += (
                action
                for action in actions_of_session(shape, producer_id, arrival_ms, number)
                if minute_ms <= action.time_ms < minute_ms + MINUTE_MS
            )
    actions.sort(key=lambda action: (action.time_ms, action.session_id, action.number))
    return [_event(action, producer_id, minute_ms, sequence) for sequence, action in enumerate(actions)]


def _arrivals(seed: int, producer_id: str, start_ms: int, mean: float) -> Iterator[int]:
    """Draw when sessions start in a minute: a Poisson process with `mean` arrivals."""
    random = seeded("arrivals", seed, producer_id, start_ms // MINUTE_MS)
    passed = -math.log(1 - random.random())
    while passed < mean:
        # The minimum guards the last millisecond against rounding up into the next minute.
        yield start_ms + min(int(passed / mean * MINUTE_MS), MINUTE_MS - 1)
        passed -= math.log(1 - random.random())


def _event(action: Action, producer_id: str, minute_ms: int, sequence: int) -> Event:
    step, visitor = action.step, action.visitor
    buys = step.event_type == "PURCHASE"
    cents = 0 if step.product is None else price_cents(step.product) * step.quantity
    return Event(
        event_id=str(uuid5(_EVENT_NAMESPACE, f"{producer_id}/{minute_ms // MINUTE_MS}/{sequence}")),
        user_id=visitor.user_id,
        session_id=action.session_id,
        event_type=step.event_type,
        event_time_ms=action.time_ms,
        page=step.page,
        device=visitor.device,
        region=visitor.market.region,
        producer_id=producer_id,
        sequence=sequence,
        referrer=action.referrer,
        product_id=None if step.product is None else product_id(step.product),
        amount=visitor.market.amount(cents) if buys else None,
        currency=visitor.market.currency if buys else None,
    )
