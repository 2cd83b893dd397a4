"""The generator's events: determinism, contract, and visitors who behave like visitors."""

import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from clickstream_source.event import Event
from clickstream_source.minute import day_factor, events_of_minute
from clickstream_source.visitors import Shape
from tests.kit.contract import checked, text, time_of

MINUTE = datetime(2026, 11, 22, 18, 54, tzinfo=UTC)
SHAPE = Shape(seed=1, users=500, view_to_cart_rate=0.3, cart_to_purchase_rate=0.6)
LAMBDA = Path(__file__).parents[3] / "lambda"


def made(
    minute: datetime = MINUTE,
    *,
    producer_id: str = "lambda-1",
    shape: Shape = SHAPE,
    rate: float = 400,
    amplitude: float = 0,
) -> list[Event]:
    return events_of_minute(
        shape=shape,
        producer_id=producer_id,
        minute=minute,
        events_per_minute=rate,
        day_night_amplitude=amplitude,
    )


def values(events: list[Event]) -> list[bytes]:
    return [event.to_json() for event in events]


def test_every_event_obeys_the_contract_and_lies_in_its_minute() -> None:
    events = [checked(value) for value in values(made(rate=2_000))]
    assert {event["eventType"] for event in events} == {"PAGE_VIEW", "ADD_TO_CART", "PURCHASE", "LOGIN", "LOGOUT"}
    assert all(MINUTE <= time_of(event) < MINUTE + timedelta(minutes=1) for event in events)
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert [time_of(event) for event in events] == sorted(map(time_of, events))
    assert len({text(event, "currency") for event in events if "currency" in event}) > 2


def test_the_same_minute_has_the_same_bytes_in_another_process() -> None:
    code = (
        "from datetime import UTC, datetime\n"
        "from clickstream_source.minute import events_of_minute\n"
        "from clickstream_source.visitors import Shape\n"
        "shape = Shape(seed=1, users=500, view_to_cart_rate=0.3, cart_to_purchase_rate=0.6)\n"
        "for event in events_of_minute(shape=shape, producer_id='lambda-1', events_per_minute=400,\n"
        "        minute=datetime(2026, 11, 22, 18, 54, tzinfo=UTC), day_night_amplitude=0):\n"
        "    print(event.to_json().decode())\n"
    )
    environment = {"PYTHONPATH": str(LAMBDA), "PYTHONHASHSEED": "7", "PYTHONUTF8": "1"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60
    ).stdout
    assert printed.splitlines() == values(made())
    assert len(printed.splitlines()) > 200


@pytest.mark.parametrize(
    "other",
    [
        made(producer_id="lambda-2"),
        made(MINUTE + timedelta(minutes=1)),
        made(MINUTE + timedelta(days=1)),
    ],
    ids=["producer", "minute", "day"],
)
def test_event_ids_of_another_producer_or_minute_are_others(other: list[Event]) -> None:
    ids = [event.event_id for event in made()]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {event.event_id for event in other}


def test_another_seed_makes_other_events() -> None:
    other = Shape(seed=2, users=500, view_to_cart_rate=0.3, cart_to_purchase_rate=0.6)
    assert not set(values(made())) & set(values(made(shape=other)))


def hour_of_sessions() -> dict[str, list[Event]]:
    sessions: dict[str, list[Event]] = defaultdict(list)
    for number in range(60):
        for event in made(MINUTE + timedelta(minutes=number), rate=60):
            sessions[event.session_id].append(event)
    return sessions


def test_sessions_go_on_over_minutes_with_one_visitor_and_end_before_thirty() -> None:
    sessions = hour_of_sessions()
    assert sum(len({event.event_time_ms // 60_000 for event in events}) > 2 for events in sessions.values()) > 50
    for events in sessions.values():
        assert len({(event.user_id, event.device, event.region) for event in events}) == 1
        assert events[-1].event_time_ms - events[0].event_time_ms < 29 * 60_000


def test_a_session_goes_through_the_funnel_in_order() -> None:
    # Sessions that were under way in the first minute have lost their beginning, so they are left out.
    begun = {event.session_id for event in made(rate=60)}
    begun |= {event.session_id for lag in range(1, 30) for event in made(MINUTE - timedelta(minutes=lag), rate=60)}
    whole = [events for session, events in hour_of_sessions().items() if session not in begun]
    bought = 0
    for events in whole:
        types = [event.event_type for event in events]
        assert types[0] in {"PAGE_VIEW", "LOGIN"}
        assert types.count("LOGIN") <= 1
        assert "LOGOUT" not in types or (types[0] == "LOGIN" and types.index("LOGOUT") == len(types) - 1)
        viewed: set[str] = set()
        carted: Counter[str] = Counter()
        for event in events:
            if event.event_type == "PAGE_VIEW":
                viewed.add(event.page)
            elif event.event_type == "ADD_TO_CART":
                assert event.page in viewed
                assert event.product_id is not None
                carted[event.product_id] += 1
            elif event.event_type == "PURCHASE":
                assert event.product_id in carted
                assert float(event.amount or 0) > 0
                bought += 1
        assert events[0].referrer is None or not events[0].referrer.startswith("https://shop.example")
        for earlier, later in pairwise(events):
            assert later.referrer == f"https://shop.example{earlier.page}"
    assert bought > 10


def test_rates_of_the_funnel_are_settings() -> None:
    nothing_carted = Shape(seed=1, users=500, view_to_cart_rate=0, cart_to_purchase_rate=1)
    nothing_bought = Shape(seed=1, users=500, view_to_cart_rate=1, cart_to_purchase_rate=0)
    assert not {"ADD_TO_CART", "PURCHASE"} & {event.event_type for event in made(shape=nothing_carted)}
    types = {event.event_type for event in made(shape=nothing_bought)}
    assert "ADD_TO_CART" in types
    assert "PURCHASE" not in types


def test_users_return_and_keep_their_region() -> None:
    days: list[dict[str, str]] = [
        {event.user_id: event.region for event in made(MINUTE + timedelta(days=day))} for day in range(3)
    ]
    returning = set(days[0]) & set(days[1]) & set(days[2])
    assert len(returning) > 20
    assert all(days[0][user] == days[1][user] == days[2][user] for user in returning)


def test_the_number_of_events_is_the_average_times_the_time_of_day() -> None:
    noon = [len(made(MINUTE + timedelta(minutes=30 * step))) for step in range(40)]
    assert 380 < sum(noon) / len(noon) < 420
    assert len(set(noon)) > 10
    busy = len(made(datetime(2026, 11, 22, 19, tzinfo=UTC), amplitude=0.8))
    quiet = len(made(datetime(2026, 11, 22, 7, tzinfo=UTC), amplitude=0.8))
    assert busy > 600
    assert quiet < 150
    factors = [day_factor(minute, 0.8) for minute in range(1_440)]
    assert sum(factors) / 1_440 == pytest.approx(1)
    assert min(factors) == pytest.approx(0.2)


def test_no_rate_no_events() -> None:
    assert made(rate=0) == []
