from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.tables import TABLES
from tests.kit.changes import WIDTHS, Batch, Row, Rows, changes, filled, tables_of
from tests.kit.examples import examples
from tests.kit.lake import NOON

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
BUILD = {table.name: table.build for table in TABLES}
KINDS = ("PAGE_VIEW", "ADD_TO_CART", "PURCHASE", "LOGIN", "LOGOUT")
IDS = ("a", "A", "a ", "\u00e9", "e\u0301", "\uffff", "\U0001f600")  # the last two order by bytes, not by UTF-16
BATCHES: dict[str, Batch] = {}


def of_batch(new: list[Row], live: Iterable[Row] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give the test, as `tables`, what each table says of this batch."""

    def keep(test: Callable[..., None]) -> Callable[..., None]:
        BATCHES[test.__name__] = Batch(new, tuple(live))
        return test

    return keep


@pytest.fixture(scope="module")
def tables_by_batch(steps_session: SparkSession) -> dict[str, Rows]:
    return dict(zip(BATCHES, tables_of(steps_session, list(BATCHES.values())), strict=True))


@pytest.fixture
def tables(tables_by_batch: dict[str, Rows], request: pytest.FixtureRequest) -> Rows:
    return tables_by_batch[request.function.__name__]


def schema_of(name: str) -> T.StructType:
    schema = import_module(f"clickstream_transform.tables.{name}").SCHEMA
    assert isinstance(schema, T.StructType)
    return schema


def of_hour(rows: Iterable[Row]) -> list[Row]:
    """The rows of the 60-minute windows, without their key."""
    dropped = {"window_start", "window_minutes"}
    return [{k: v for k, v in row.items() if k not in dropped} for row in rows if row["window_minutes"] == 60]


def test_tables_are_registered_once() -> None:
    assert len(BUILD) == len(TABLES)


@pytest.mark.parametrize("name", BUILD)
def test_a_table_ends_in_its_schema(steps_session: SparkSession, name: str) -> None:
    table = BUILD[name](changes(steps_session, [], []))
    assert [(field.name, field.dataType) for field in table.schema] == [
        (field.name, field.dataType) for field in schema_of(name)
    ]
    assert table.schema.names[:2] == ["window_start", "window_minutes"] or not name.endswith("_by_window")


def test_no_events_give_no_rows(steps_session: SparkSession) -> None:
    assert tables_of(steps_session, [Batch([])]) == [{name: [] for name in BUILD}]


TYPES = ["PAGE_VIEW"] * 3 + ["ADD_TO_CART"] * 2 + ["PURCHASE", "LOGIN", "LOGOUT"]
USERS = ["a", "A", "a ", "\u00e9", "e\u0301", "a", "a", "a"]
VISITS: list[Row] = [
    {"event_time": NOON + n * MINUTE, "event_type": kind, "user_id": user, "session_id": f"s{n // 4}"}
    for n, (kind, user) in enumerate(zip(TYPES, USERS, strict=True))
]


@of_batch(VISITS[:1], live=VISITS[1:])
def test_traffic_counts_types_and_exact_distincts(tables: Rows) -> None:
    five, hour = sorted(tables["traffic_by_window"], key=lambda row: int(row["window_minutes"]))
    assert hour == {
        "window_start": NOON,
        "window_minutes": 60,
        "events": 8,
        "page_views": 3,
        "add_to_carts": 2,
        "purchases": 1,
        "logins": 1,
        "logouts": 1,
        "users": 5,
        "sessions": 2,
    }
    assert (five["events"], five["page_views"], five["add_to_carts"], five["users"]) == (5, 3, 2, 5)


@of_batch(
    [
        {"user_id": "a", "device": "mobile"},
        {"user_id": "a", "device": "desktop", "event_type": "PURCHASE", "currency": "EUR", "amount": Decimal(1)},
        {"user_id": "b", "device": "mobile", "referrer": "https://x.example"},
    ]
)
def test_a_session_with_several_users_and_devices_is_one_session(tables: Rows) -> None:
    ((users, sessions),) = {(row["users"], row["sessions"]) for row in tables["traffic_by_window"]}
    assert (users, sessions) == (2, 1)
    assert of_hour(tables["funnel_by_window"]) == [
        {"sessions_viewed": 1, "sessions_carted": 0, "sessions_purchased": 1}
    ]
    audience = {(row["dimension"], row["value"]): row for row in of_hour(tables["audience_by_window"])}
    assert audience["device", "mobile"] == {
        "dimension": "device", "value": "mobile", "events": 2, "users": 2, "sessions": 1, "purchases": 0,
    }  # fmt: skip
    assert audience["device", "desktop"] == {
        "dimension": "device", "value": "desktop", "events": 1, "users": 1, "sessions": 1, "purchases": 1,
    }  # fmt: skip
    assert audience["referrer", "(direct)"]["events"] == 2
    assert {key: row["events"] for key, row in audience.items() if key[0] == "region"} == {("region", "EU"): 3}
    assert len(audience) == 5


@of_batch(
    [
        {"page": "/a?x", "user_id": "u1"},
        {"page": "/a#y", "user_id": "u2"},
        {"page": "/a", "event_type": "ADD_TO_CART", "user_id": "u3"},
        {"page": "?", "session_id": "s2"},
        {"page": "/A"},
    ]
)
def test_a_page_has_the_views_of_all_its_addresses(tables: Rows) -> None:
    assert sorted(of_hour(tables["pages_by_window"]), key=lambda row: str(row["page"])) == [
        {"page": "/", "views": 1, "users": 1, "sessions": 1},
        {"page": "/A", "views": 1, "users": 1, "sessions": 1},
        {"page": "/a", "views": 2, "users": 2, "sessions": 1},
    ]


@of_batch([{"event_type": "LOGIN"}])
def test_a_window_without_views_has_a_funnel_of_zeros_and_no_pages(tables: Rows) -> None:
    zeros = {"sessions_viewed": 0, "sessions_carted": 0, "sessions_purchased": 0}
    assert sorted(tables["funnel_by_window"], key=lambda row: int(row["window_minutes"])) == [
        {"window_start": NOON, "window_minutes": 5} | zeros,
        {"window_start": NOON, "window_minutes": 60} | zeros,
    ]
    assert tables["pages_by_window"] == []
    assert tables["revenue_by_window"] == []


LARGEST, LEAST = Decimal("999999999999999999.999999"), Decimal("0.000001")
BOUGHT = {"event_type": "PURCHASE", "currency": "EUR"}


@of_batch(
    [
        *[BOUGHT | {"amount": LARGEST}] * 12,
        *[BOUGHT | {"amount": LEAST}] * 3,
        BOUGHT | {"amount": Decimal(0), "currency": "USD"},
        {"event_type": "ADD_TO_CART", "currency": "EUR", "amount": Decimal(5)},
    ]
)
def test_revenue_is_exact_and_of_purchases_only(tables: Rows) -> None:
    assert sorted(of_hour(tables["revenue_by_window"]), key=lambda row: str(row["currency"])) == [
        {"currency": "EUR", "purchases": 15, "amount": 12 * LARGEST + 3 * LEAST},
        {"currency": "USD", "purchases": 1, "amount": Decimal(0)},
    ]


@of_batch(
    [
        {"event_time": NOON + 5 * MINUTE, "page": "/new?x", "user_id": "u1"},
        {"event_time": NOON + HOUR, "event_type": "LOGOUT", "device": "desktop"},
    ],
    live=[
        {"event_time": NOON + 59 * MINUTE, "event_type": "ADD_TO_CART", "page": "/cart"},
        {"event_time": NOON, "event_type": "PURCHASE", "page": "/pay", "user_id": "u0", "region": "US"},
        {"event_time": NOON + 30 * MINUTE, "page": "/old"},
        {"session_id": "other"},  # in the hour, but it gained nothing
        {"event_time": NOON - MINUTE},  # of the session, in an hour without news
    ],
)
def test_sessions_hours_hold_all_events_of_those_that_gained_one(tables: Rows) -> None:
    assert sorted(tables["session_hours"], key=lambda row: str(row["hour"])) == [
        {
            "session_id": "s",
            "hour": NOON,
            "started_at": NOON,
            "ended_at": NOON + 59 * MINUTE,
            "events": 4,
            "page_views": 2,
            "add_to_carts": 1,
            "purchases": 1,
            "user_id": "u0",
            "device": "mobile",
            "region": "US",
            "entry_page": "/new",
            "exit_page": "/old",
        },
        {
            "session_id": "s",
            "hour": NOON + HOUR,
            "started_at": NOON + HOUR,
            "ended_at": NOON + HOUR,
            "events": 1,
            "page_views": 0,
            "add_to_carts": 0,
            "purchases": 0,
            "user_id": "u",
            "device": "desktop",
            "region": "EU",
            "entry_page": None,
            "exit_page": None,
        },
    ]


TIES: dict[str, list[Row]] = {
    "by time": [{"event_time": NOON}, {"event_time": NOON + timedelta(microseconds=1)}],
    "by id, in bytes": [{"event_id": "B"}, {"event_id": "a"}],
    "by id, its prefix first": [{"event_id": "e"}, {"event_id": "e "}],
    "by id, beyond the BMP": [{"event_id": "\uffff"}, {"event_id": "\U0001f600"}],
    "by fingerprint, unsigned": [
        {"event_id": "e", "fingerprint": b"\x7f" * 32},
        {"event_id": "e", "fingerprint": b"\x80" * 32},
    ],
}
for tie, tied in TIES.items():
    BATCHES[tie] = Batch([row | {"page": f"/{n}", "user_id": f"u{n}"} for n, row in enumerate(tied)])
    BATCHES[f"{tie}, reversed"] = Batch(BATCHES[tie].new[::-1])


@pytest.mark.parametrize("order", ["", ", reversed"])
@pytest.mark.parametrize("tie", TIES)
def test_least_and_greatest_event(tables_by_batch: dict[str, Rows], tie: str, order: str) -> None:
    (row,) = tables_by_batch[tie + order]["session_hours"]
    assert (row["user_id"], row["entry_page"], row["exit_page"]) == ("u0", "/0", "/1")


@of_batch(
    [
        {"user_id": "a", "event_time": NOON + 59 * MINUTE},
        {"user_id": "a", "event_time": NOON, "session_id": "t"},
        {"user_id": "a", "event_time": NOON + HOUR},
        {"user_id": "A", "event_time": NOON},
    ],
    live=[{"user_id": "live"}],
)
def test_users_by_hour_are_those_of_the_new_events(tables: Rows) -> None:
    users = [(row["hour"], row["user_id"]) for row in tables["users_by_hour"]]
    assert sorted(users) == [(NOON, "A"), (NOON, "a"), (NOON + HOUR, "a")]


def distinct(events: Iterable[Row], column: str) -> int:
    return len({event[column] for event in events})


def of_kind(events: Iterable[Row], kind: str) -> list[Row]:
    return [event for event in events if event["event_type"] == kind]


def page(event: Row) -> str:
    return str(event["page"]).partition("?")[0].partition("#")[0] or "/"


def start(time: datetime, minutes: int) -> datetime:
    seconds = int(time.timestamp())
    return datetime.fromtimestamp(seconds - seconds % (minutes * 60), UTC)


def grouped(keyed: Iterable[tuple[Any, Row]]) -> dict[Any, list[Row]]:
    groups = defaultdict(list)
    for key, event in keyed:
        groups[key].append(event)
    return groups


def people(events: list[Row]) -> tuple[int, int]:
    return distinct(events, "user_id"), distinct(events, "session_id")


def expected(new: list[Row], live: list[Row]) -> dict[str, set[tuple[Any, ...]]]:
    """The rows of each table, in plain Python."""
    changed = {(start(event["event_time"], width), width) for event in new for width in WIDTHS}
    windowed = [
        (key, event)
        for event in [*new, *live]
        for width in WIDTHS
        if (key := (start(event["event_time"], width), width)) in changed
    ]
    windows = grouped(windowed)
    pages = grouped(((*key, page(event)), event) for key, event in windowed if event["event_type"] == "PAGE_VIEW")
    audience = grouped(
        ((*key, dimension, value), event)
        for key, event in windowed
        for dimension, value in [
            *((name, event[name]) for name in ("device", "region")),
            ("referrer", {None: "(direct)", "https://X.example/": "x.example", "x": "(invalid)"}[event["referrer"]]),
        ]
    )
    revenue = grouped(((*key, event["currency"]), event) for key, event in windowed if event["event_type"] == KINDS[2])
    gained = {(event["session_id"], start(event["event_time"], 60)) for event in new}
    hours = grouped(((event["session_id"], start(event["event_time"], 60)), event) for event in [*new, *live])
    return {
        "traffic_by_window": {
            (*key, len(events), *(len(of_kind(events, kind)) for kind in KINDS), *people(events))
            for key, events in windows.items()
        },
        "pages_by_window": {(*key, len(events), *people(events)) for key, events in pages.items()},
        "audience_by_window": {
            (*key, len(events), *people(events), len(of_kind(events, "PURCHASE"))) for key, events in audience.items()
        },
        "funnel_by_window": {
            (*key, *(distinct(of_kind(events, kind), "session_id") for kind in KINDS[:3]))
            for key, events in windows.items()
        },
        "revenue_by_window": {
            (*key, len(events), sum(event["amount"] for event in events)) for key, events in revenue.items()
        },
        "session_hours": {(*key, *session(events)) for key, events in hours.items() if key in gained},
        "users_by_hour": {(start(event["event_time"], 60), event["user_id"]) for event in new},
    }


def session(events: list[Row]) -> tuple[Any, ...]:
    events = sorted(events, key=lambda e: (e["event_time"], e["event_id"].encode(), e["fingerprint"]))
    views, first = of_kind(events, "PAGE_VIEW"), events[0]
    return (
        first["event_time"],
        events[-1]["event_time"],
        len(events),
        *(len(of_kind(events, kind)) for kind in KINDS[:3]),
        *(first[name] for name in ("user_id", "device", "region")),
        page(views[0]) if views else None,
        page(views[-1]) if views else None,
    )


EVENTS: st.SearchStrategy[Row] = st.fixed_dictionaries(
    {
        "event_time": st.sampled_from((-HOUR, -MINUTE, 0 * HOUR, MINUTE, 5 * MINUTE, 59 * MINUTE, HOUR)).map(
            lambda delta: NOON + delta
        ),
        "event_id": st.sampled_from(IDS),
        "event_type": st.sampled_from(KINDS),
        "user_id": st.sampled_from(IDS[:4]),
        "session_id": st.sampled_from(IDS[3:]),
        "device": st.sampled_from(("mobile", "Mobile")),
        "region": st.sampled_from(("EU", "\u05d0\u05e8")),
        "page": st.sampled_from(("/", "?x", "#", "/a?b#c", "/a#b?c", "/a\n?", "/\U0001f600")),
        "referrer": st.sampled_from((None, "https://X.example/", "x")),
        "amount": st.sampled_from(("0", "0.000001", "12.5", "999999999999999999.999999")).map(Decimal),
        "currency": st.sampled_from(("EUR", "USD")),
    }
)


RANDOM_BATCHES = st.lists(st.tuples(st.lists(EVENTS, max_size=40), st.integers(0, 40)), min_size=6, max_size=6)


@settings(max_examples=examples(short=2, long=25), suppress_health_check=list(HealthCheck))
@given(drawn=RANDOM_BATCHES)
def test_every_table_says_what_plain_python_does(
    steps_session: SparkSession, drawn: list[tuple[list[Row], int]]
) -> None:
    batches = [Batch(rows[live:], rows[:live]) for events, live in drawn for rows in [filled(events)]]
    for batch, found in zip(batches, tables_of(steps_session, batches), strict=True):
        wanted = expected(list(batch.new), list(batch.live))
        assert set(wanted) == set(BUILD)
        for name, table in found.items():
            rows = {tuple(row.values()) for row in table}
            assert len(rows) == len(table), name
            assert rows == wanted[name], name
