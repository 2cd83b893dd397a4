"""The oracle itself: against cases decided by hand, tables counted by hand, and orders that must not matter."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from tests.kit.examples import examples
from tests.kit.records import (
    ABSENT,
    CORNER_CASES,
    HISTORIC,
    HOSTS,
    MAX_BYTES,
    NOW_MS,
    ONE_IDENTITY,
    PAGES,
    RETIRED_HOURS,
    TWO_IDENTITIES,
    Case,
    event,
    nested,
    purchase,
    record,
    record_lists,
)
from tests.oracle import Result, fold, numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.oracle import Record

HOUR = 1_795_370_400  # 2026-11-22T18:00:00Z
SOME = settings(max_examples=examples(short=20, long=300), suppress_health_check=[HealthCheck.too_slow])


def fold_values(*values: dict[str, Any] | bytes, **settings: Any) -> Result:
    return fold([record(value, offset=offset) for offset, value in enumerate(values)], **settings)


def at(clock: str, **fields: Any) -> dict[str, Any]:
    """An event at this time of 2026-11-22; its id is the time unless it is given."""
    return event(**{"eventId": clock, "eventTime": f"2026-11-22T{clock}Z", **fields})


@pytest.mark.parametrize("case", CORNER_CASES, ids=lambda case: case[0].encode("unicode_escape").decode())
def test_corner_case(case: Case) -> None:
    _, value, timestamp_ms, headers, disposition, reason, detail = case
    result = fold([record(value, timestamp_ms=timestamp_ms, headers=headers)])
    assert result.dispositions == {disposition: 1}
    assert list(result.rejections.values()) == ([(reason, detail)] if reason else [])
    assert result.reasons == Counter([reason] if reason else [])
    assert len(result.accepted) == (disposition == "accepted")


def test_nesting_without_end_is_rejected_and_leaves_the_recursion_limit() -> None:
    limit = sys.getrecursionlimit()
    values = [b"[" * MAX_BYTES, b'{"a":' * (MAX_BYTES // 5), nested(100_000), nested(40_000, '{"a":', "}", "1")]
    assert fold_values(*values).reasons == {"not_json": 4}
    assert fold_values(nested(1024)).dispositions == {"accepted": 1}
    assert sys.getrecursionlimit() == limit


def test_corner_cases_cover_every_reason_and_have_names_of_their_own() -> None:
    assert {reason for *_, reason, _ in CORNER_CASES} == {
        None, "null_value", "too_large", "not_utf8", "not_json", "not_an_object", "unsupported_schema_version",
        "missing_field", "wrong_type", "forbidden_character", "unknown_event_type", "bad_event_time",
        "future_event_time",
    }  # fmt: skip
    assert len({name for name, *_ in CORNER_CASES}) == len(CORNER_CASES)


@pytest.mark.parametrize(("name", "one", "other"), ONE_IDENTITY)
def test_one_identity(name: str, one: bytes, other: bytes) -> None:
    result = fold_values(one, other)
    assert (result.dispositions, result.id_conflicts) == ({"accepted": 1, "duplicate": 1}, 0), name
    assert fold_values(one).accepted == fold_values(other).accepted


@pytest.mark.parametrize(("name", "one", "other"), TWO_IDENTITIES)
def test_two_identities(name: str, one: bytes, other: bytes) -> None:
    result = fold_values(one, other)
    assert result.dispositions == {"accepted": 2}, name
    assert result.id_conflicts == (name != "another eventId")


def test_fingerprint_is_sha256_over_sorted_names_and_values_behind_their_lengths() -> None:
    made = purchase(
        eventId="é", amount="12.50", eventTime="2026-11-22T19:29:30.0000019+01:00", referrer=None, productId=""
    )
    parts = [
        "amount", "12.5", "currency", "EUR", "device", "mobile", "eventId", "é", "eventTime", "1795372170000001",
        "eventType", "PURCHASE", "page", "/", "producerId", "p", "productId", "", "region", "EU", "schemaVersion", "1",
        "sequence", "0", "sessionId", "s", "userId", "u",
    ]  # fmt: skip
    expected = sha256()
    for part in parts:
        expected.update(bytes(3) + bytes([len(part.encode())]) + part.encode())
    assert [accepted.fingerprint for accepted in fold_values(made).accepted] == [expected.digest()]


def test_id_conflicts_are_counted_within_a_utc_hour() -> None:
    result = fold_values(
        at("17:59:59.999999", eventId="a"),
        at("18:00:00", eventId="a"),
        at("18:00:00", eventId="a", page="/b"),
        at("18:00:00", eventId="a", page="/b"),
        at("18:29:00", eventId="a"),
        at("18:29:00", eventId="b"),
    )
    assert result.dispositions == {"accepted": 5, "duplicate": 1}
    assert result.id_conflicts == 2


def test_what_is_late_or_rejected_is_in_no_table() -> None:
    result = fold_values(event(eventTime="2026-11-20T00:00:00Z"), b"{")
    assert result.dispositions == {"late": 1, "rejected": 1}
    assert not any(
        (result.traffic, result.pages, result.audience, result.funnel, result.revenue, result.sessions, result.accepted)
    )


def test_a_late_copy_of_an_accepted_event_is_late() -> None:
    copies = [record(event(), offset=0), record(event(), offset=1, timestamp_ms=NOW_MS + 86_400_000)]
    assert fold(copies).dispositions == {"accepted": 1, "late": 1}
    historic = replace(copies[1], headers=HISTORIC)
    assert fold([copies[0], historic]).dispositions == {"accepted": 1, "duplicate": 1}


def test_an_event_of_a_retired_hour_is_late_even_if_historic() -> None:
    records = [
        record(at(clock), offset=offset, headers=HISTORIC)
        for offset, clock in enumerate(("17:59:59.999999", "18:00:00", "18:29:00"))
    ]
    result = fold([*records, record(at("18:00:00", page=1), offset=3)], retired_hours=frozenset({"2026-11-22T18"}))
    assert result.dispositions == {"accepted": 1, "late": 2, "rejected": 1}
    assert set(result.traffic) == {(HOUR - 300, 5), (HOUR - 3600, 60)}


def test_settings_move_the_limits() -> None:
    values = (at("18:20:00"), at("18:29:50"), at("18:30:10"))
    result = fold_values(*values, allowed_lateness_seconds=599, max_future_seconds=9, widths=(1,))
    assert result.dispositions == {"accepted": 1, "late": 1, "rejected": 1}
    assert set(result.traffic) == {(HOUR + 29 * 60, 1)}
    wider = fold_values(*values, allowed_lateness_seconds=600, max_future_seconds=10, widths=(30,))
    assert wider.dispositions == {"accepted": 3}
    assert set(wider.traffic) == {(HOUR, 30), (HOUR + 1800, 30)}


def test_traffic_by_window() -> None:
    result = fold_values(
        at("17:59:59.999999999", userId="u1", sessionId="s1"),
        at("18:00:00", userId="u1", sessionId="s1"),
        at("23:34:59.999999+05:30", eventTime="2026-11-22T23:34:59.999999+05:30", userId="U1", eventType="LOGIN"),
        at("18:05:00", userId="e\u0301", sessionId="s2", eventType="ADD_TO_CART"),
        at("18:05:00.1", userId="é", sessionId="s2", eventType="PURCHASE", amount="1", currency="EUR"),
        at("18:05:00.2", userId="é", sessionId="s2", eventType="LOGOUT"),
    )
    empty = dict.fromkeys(("page_views", "add_to_carts", "purchases", "logins", "logouts"), 0)
    assert result.traffic == {
        (HOUR - 300, 5): empty | {"events": 1, "page_views": 1, "users": 1, "sessions": 1},
        (HOUR - 3600, 60): empty | {"events": 1, "page_views": 1, "users": 1, "sessions": 1},
        (HOUR, 5): empty | {"events": 2, "page_views": 1, "logins": 1, "users": 2, "sessions": 2},
        (HOUR + 300, 5): empty
        | {"events": 3, "add_to_carts": 1, "purchases": 1, "logouts": 1, "users": 2, "sessions": 1},
        (HOUR, 60): {
            "events": 5, "page_views": 1, "add_to_carts": 1, "purchases": 1, "logins": 1, "logouts": 1, "users": 4,
            "sessions": 3,
        },
    }  # fmt: skip


def test_pages_by_window() -> None:
    result = fold_values(
        at("18:01:00", page="/a?x=1", userId="u1", sessionId="s1"),
        at("18:02:00", page="/a#y", userId="u1", sessionId="s2"),
        at("18:06:00", page="/a", userId="u2", sessionId="s2"),
        at("18:06:00", eventId="q", page="?x"),
        at("18:07:00", page="/b", eventType="LOGIN"),
    )
    assert result.pages == {
        (HOUR, 5, "/a"): {"views": 2, "users": 1, "sessions": 2},
        (HOUR + 300, 5, "/a"): {"views": 1, "users": 1, "sessions": 1},
        (HOUR + 300, 5, "/"): {"views": 1, "users": 1, "sessions": 1},
        (HOUR, 60, "/a"): {"views": 3, "users": 2, "sessions": 2},
        (HOUR, 60, "/"): {"views": 1, "users": 1, "sessions": 1},
    }


def test_audience_by_window() -> None:
    result = fold_values(
        at("18:01:00", device="mobile", region="EU", referrer="https://X.example/a"),
        at("18:02:00", device="mobile", region="US", referrer="", userId="u2"),
        at("18:03:00", device="Mobile", region="EU", referrer="x", eventType="PURCHASE", amount="1", currency="EUR"),
        at("18:04:00", device="mobile", region="EU", sessionId="s2"),
        widths=(5,),
    )
    assert result.audience == {
        (HOUR, 5, "device", "mobile"): {"events": 3, "users": 2, "sessions": 2, "purchases": 0},
        (HOUR, 5, "device", "Mobile"): {"events": 1, "users": 1, "sessions": 1, "purchases": 1},
        (HOUR, 5, "region", "EU"): {"events": 3, "users": 1, "sessions": 2, "purchases": 1},
        (HOUR, 5, "region", "US"): {"events": 1, "users": 1, "sessions": 1, "purchases": 0},
        (HOUR, 5, "referrer", "x.example"): {"events": 1, "users": 1, "sessions": 1, "purchases": 0},
        (HOUR, 5, "referrer", "(direct)"): {"events": 2, "users": 2, "sessions": 2, "purchases": 0},
        (HOUR, 5, "referrer", "(invalid)"): {"events": 1, "users": 1, "sessions": 1, "purchases": 1},
    }


def test_funnel_by_window() -> None:
    paid = {"eventType": "PURCHASE", "amount": "1", "currency": "EUR"}
    result = fold_values(
        at("18:01:00", sessionId="s1"),
        at("18:02:00", sessionId="s1"),
        at("18:03:00", sessionId="s2"),
        at("18:04:00", sessionId="s1", eventType="ADD_TO_CART"),
        at("18:04:30", sessionId="s3", **paid),
        at("18:06:00", sessionId="s1", **paid),
        at("18:11:00", sessionId="s4", eventType="LOGIN"),
    )
    assert result.funnel == {
        (HOUR, 5): {"sessions_viewed": 2, "sessions_carted": 1, "sessions_purchased": 1},
        (HOUR + 300, 5): {"sessions_viewed": 0, "sessions_carted": 0, "sessions_purchased": 1},
        (HOUR + 600, 5): {"sessions_viewed": 0, "sessions_carted": 0, "sessions_purchased": 0},
        (HOUR, 60): {"sessions_viewed": 2, "sessions_carted": 1, "sessions_purchased": 2},
    }


def test_revenue_by_window() -> None:
    result = fold_values(
        purchase(eventId="a", amount="0.1"),
        purchase(eventId="b", amount="0.2"),
        purchase(eventId="c", amount="0.000001", currency="USD"),
        purchase(eventId="d", amount="007", currency="USD", eventTime="2026-11-22T18:31:00Z"),
        event(eventId="e", amount="1000", currency="EUR"),
        event(eventId="f", amount="1000", currency="JPY"),
        widths=(5,),
    )
    assert result.revenue == {
        (HOUR + 1500, 5, "EUR"): {"purchases": 2, "amount": Decimal("0.3")},
        (HOUR + 1500, 5, "USD"): {"purchases": 1, "amount": Decimal("0.000001")},
        (HOUR + 1800, 5, "USD"): {"purchases": 1, "amount": Decimal(7)},
    }


def test_revenue_is_exact_beyond_the_digits_of_a_decimal_context() -> None:
    (most,) = fold_values(purchase(amount="999999999999999999.999999")).accepted
    assert str(numbers([most] * 20_000)["amount"]) == "19999999999999999999999.980000"


def test_sessions() -> None:
    paid = {"eventType": "PURCHASE", "amount": "1", "currency": "EUR"}
    result = fold_values(
        at("18:10:00", sessionId="s1", page="/last?x", userId="u2", device="tv", region="US"),
        at("17:50:00", sessionId="s1", eventType="LOGIN", page="/login", userId="u1", device="pc", region="EU"),
        at("18:00:00.000001", sessionId="s1", page="/first#x"),
        at("18:05:00", sessionId="s1", page="/between"),
        at("18:06:00", sessionId="s1", eventType="ADD_TO_CART", page="/cart"),
        at("18:20:00", sessionId="s1", page="/paid", **paid),
        at("18:07:00", sessionId="s2"),
        at("18:08:00", sessionId="s3", eventType="LOGOUT"),
        widths=(),
    )

    def moment(hour: int, minute: int) -> datetime:
        return datetime(2026, 11, 22, hour, minute, tzinfo=UTC)

    of_default = {"user_id": "u", "device": "mobile", "region": "EU", "add_to_carts": 0, "purchases": 0, "events": 1}
    assert result.sessions == {
        "s1": {
            "started_at": moment(17, 50), "ended_at": moment(18, 20), "events": 6, "page_views": 3, "add_to_carts": 1,
            "purchases": 1, "user_id": "u1", "device": "pc", "region": "EU", "entry_page": "/first",
            "exit_page": "/last", "bounced": False,
        },
        "s2": of_default | {
            "started_at": moment(18, 7), "ended_at": moment(18, 7), "page_views": 1, "entry_page": "/",
            "exit_page": "/", "bounced": True,
        },
        "s3": of_default | {
            "started_at": moment(18, 8), "ended_at": moment(18, 8), "page_views": 0, "entry_page": None,
            "exit_page": None, "bounced": False,
        },
    }  # fmt: skip
    assert result.traffic == {}


def test_events_of_one_time_are_ordered_by_the_bytes_of_their_ids_then_by_fingerprint() -> None:
    # UTF-8 puts U+FFFF before U+1F600, UTF-16 after it; a locale would put "a" before "B".
    for lesser, greater in (("\uffff", "\U0001f600"), ("B", "a"), ("a", "aa"), ("z", "é"), ("e\u0301", "é")):
        both = (event(eventId=greater, page="/2", userId="2"), event(eventId=lesser, page="/1", userId="1"))
        row = fold_values(*both).sessions["s"]
        assert (row["user_id"], row["entry_page"], row["exit_page"]) == ("1", "/1", "/2")
    ones = [fold_values(event(userId=user)).accepted[0] for user in "12345"]
    users = [one.fields["userId"] for one in sorted(ones, key=lambda one: one.fingerprint)]
    row = fold_values(*(event(userId=user) for user in "12345")).sessions["s"]
    assert (row["user_id"], row["events"]) == (users[0], 5)


@pytest.mark.parametrize(("referrer", "value"), HOSTS.items())
def test_referrer_in_audience(referrer: str | None, value: str) -> None:
    result = fold_values(event(referrer=ABSENT if referrer is None else referrer), widths=(5,))
    assert [key[3] for key in result.audience if key[2] == "referrer"] == [value]


@pytest.mark.parametrize(("page", "value"), PAGES.items())
def test_page(page: str, value: str) -> None:
    result = fold_values(event(page=page), widths=(5,))
    assert [key[2] for key in result.pages] == [value]
    assert result.sessions["s"]["entry_page"] == result.sessions["s"]["exit_page"] == value


@SOME
@given(record_lists(), RETIRED_HOURS, st.randoms(use_true_random=False))
def test_order_of_the_list_changes_nothing(records: list[Record], retired: frozenset[str], random: Random) -> None:
    expected = fold(records, retired_hours=retired)
    shuffled = random.sample(records, len(records))
    assert fold(shuffled, retired_hours=retired) == expected


@SOME
@given(record_lists(), st.randoms(use_true_random=False))
def test_which_of_equal_events_comes_first_changes_no_number(records: list[Record], random: Random) -> None:
    expected = fold(records)
    places = random.sample([(one.partition, one.offset) for one in records], len(records))
    moved = [
        replace(one, partition=partition, offset=offset)
        for one, (partition, offset) in zip(records, places, strict=True)
    ]
    result = fold(moved)
    assert sorted(result.rejections.values(), key=str) == sorted(expected.rejections.values(), key=str)
    assert replace(result, rejections={}) == replace(expected, rejections={})


@SOME
@given(record_lists(), RETIRED_HOURS)
def test_numbers_agree_with_each_other(records: list[Record], retired: frozenset[str]) -> None:
    result = fold(records, retired_hours=retired)
    assert result.dispositions.total() == len(records)
    assert result.reasons.total() == len(result.rejections) == result.dispositions["rejected"]
    accepted = result.dispositions["accepted"]
    for minutes in (5, 60):
        assert sum(row["events"] for (_, width), row in result.traffic.items() if width == minutes) == accepted
    assert sum(row["events"] for row in result.sessions.values()) == accepted == len(result.accepted)
    assert set(result.funnel) == set(result.traffic) == {key[:2] for key in result.audience}


@SOME
@given(record_lists(partitions=3))
def test_generated_records_are_a_log(records: list[Record]) -> None:
    for partition in range(3):
        here = [one for one in records if one.partition == partition]
        assert [one.offset for one in here] == list(range(len(here)))
        assert [one.timestamp_ms for one in here] == sorted(one.timestamp_ms for one in here)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda result: result.dispositions["duplicate"] >= 3,
        lambda result: result.dispositions["late"] and result.dispositions["accepted"],
        lambda result: result.id_conflicts >= 2,
        lambda result: len(result.reasons) >= 4,
        lambda result: any(row["purchases"] == 2 for row in result.revenue.values()),
        lambda result: any(row["page_views"] == 2 for row in result.sessions.values()),
        lambda result: len(result.traffic) >= 5,
    ],
    ids=["duplicates", "late", "id conflicts", "reasons", "revenue", "sessions", "windows"],
)
def test_generated_records_reach(wanted: Callable[[Result], bool]) -> None:
    phases = (Phase.generate,)
    find(
        record_lists(),
        lambda records: bool(wanted(fold(records))),
        settings=settings(SOME, max_examples=1000, phases=phases),
    )
