import json
from decimal import Decimal
from typing import Any

import pytest

from clickstream_transform.event import Event, Rejection, classify_value
from clickstream_transform.event_schema import FIELDS, MAX_VALUE_BYTES, EventType, Reason
from tests.kit.lake import document, value

REQUIRED = [field.name for field in FIELDS if field.required]
STRINGS = [field.name for field in FIELDS if field.name not in {"sequence", "schemaVersion"}]


def classify(**changes: Any) -> Event | Rejection:
    return classify_value(value(**changes))


def columns(event: Event | Rejection) -> dict[str, object]:
    assert isinstance(event, Event)
    return dict(zip((field.column for field in FIELDS), event.values, strict=True))


def test_a_full_event_becomes_typed_columns() -> None:
    event = classify(
        eventType="PURCHASE",
        eventTime="2026-11-22T13:00:00.123456789+01:00",
        referrer="https://example.org/",
        productId="p-1",
        amount="0012.500",
        currency="EUR",
        sequence=2**63 - 1,
        unknown={"kept": ["in the raw zone"]},
    )
    assert columns(event) == {
        "event_id": "event-1",
        "user_id": "user-1",
        "session_id": "session-1",
        "device": "mobile",
        "region": "eu-west-1",
        "producer_id": "producer-1",
        "event_type": "PURCHASE",
        "event_time": 1_795_348_800_123_456,
        "page": "/home",
        "sequence": 2**63 - 1,
        "schema_version": 1,
        "referrer": "https://example.org/",
        "product_id": "p-1",
        "amount": Decimal("12.500"),
        "currency": "EUR",
    }


@pytest.mark.parametrize("event_type", ["PAGE_VIEW", "ADD_TO_CART", "LOGIN", "LOGOUT"])
def test_amount_and_currency_are_optional_outside_purchases(event_type: str) -> None:
    assert isinstance(classify(eventType=event_type), Event)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, Reason.NULL_VALUE),
        (b"x" * (MAX_VALUE_BYTES + 1), Reason.TOO_LARGE),
        (b"\xff" * (MAX_VALUE_BYTES + 1), Reason.TOO_LARGE),
        (b"\xff", Reason.NOT_UTF8),
        (b'{"a":"\xed\xa0\x80"}', Reason.NOT_UTF8),  # a surrogate encoded as UTF-8
        (b'{"a":"\xc0\x80"}', Reason.NOT_UTF8),  # overlong
        (b"", Reason.NOT_JSON),
        (b"{", Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b'"text"', Reason.NOT_AN_OBJECT),
        (b"1", Reason.NOT_AN_OBJECT),
    ],
)
def test_values_that_are_no_object(raw: bytes | None, reason: Reason) -> None:
    assert classify_value(raw) == Rejection(reason)


def test_the_largest_allowed_value_is_looked_into() -> None:
    bare = value(unknown="")
    padded = value(unknown="x" * (MAX_VALUE_BYTES - len(bare)))
    assert len(padded) == MAX_VALUE_BYTES
    assert isinstance(classify_value(padded), Event)
    assert classify_value(padded + b" ") == Rejection(Reason.TOO_LARGE)


@pytest.mark.parametrize(
    ("literal", "detail"),
    [("2", "2"), ("0", "0"), ("-0", "0"), ("-1", "-1"), ("9" * 40, "9" * 32), ("-" + "9" * 5_000, "-" + "9" * 31)],
)
def test_any_other_integer_is_an_unsupported_schema_version(literal: str, detail: str) -> None:
    raw = value().replace(b'"schemaVersion": 1', b'"schemaVersion": ' + literal.encode())
    assert classify_value(raw) == Rejection(Reason.UNSUPPORTED_SCHEMA_VERSION, detail)


def test_an_unsupported_version_comes_before_missing_fields() -> None:
    assert classify_value(b'{"schemaVersion":2}') == Rejection(Reason.UNSUPPORTED_SCHEMA_VERSION, "2")


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("absent", ["missing", "null", "empty"])
def test_required_fields(name: str, absent: str) -> None:
    fields = document()
    if absent == "missing":
        del fields[name]
    else:
        fields[name] = None if absent == "null" else ""
    assert classify_value(json.dumps(fields).encode()) == Rejection(Reason.MISSING_FIELD, name)


@pytest.mark.parametrize("absent", [None, ""])
@pytest.mark.parametrize("name", ["amount", "currency"])
def test_a_purchase_needs_amount_and_currency(name: str, absent: str | None) -> None:
    raw = value(**({"eventType": "PURCHASE", "amount": "1", "currency": "EUR"} | {name: absent}))
    assert classify_value(raw) == Rejection(Reason.MISSING_FIELD, name)


@pytest.mark.parametrize("event_type", ["purchase", "PURCHASE "])
def test_only_the_exact_type_makes_amount_required(event_type: str) -> None:
    assert classify(eventType=event_type) == Rejection(Reason.UNKNOWN_EVENT_TYPE, event_type)


def test_null_and_missing_optionals_are_the_same_event() -> None:
    with_nulls = json.dumps(document() | {"referrer": None, "productId": None, "amount": None, "currency": None})
    assert classify_value(with_nulls.encode()) == classify()


def test_an_empty_referrer_is_present() -> None:
    event, without = classify(referrer=""), classify()
    assert isinstance(event, Event)
    assert isinstance(without, Event)
    assert columns(event)["referrer"] == ""
    assert event.fingerprint != without.fingerprint


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("wrong", [1, 1.5, True, [], {}, ["x"]])
def test_strings_of_another_type(name: str, wrong: object) -> None:
    assert classify(**{name: wrong}) == Rejection(Reason.WRONG_TYPE, name)


@pytest.mark.parametrize("wrong", ["1", True, 1.0, [], -1, 2**63, 10**30])
def test_sequence_of_another_type_or_out_of_range(wrong: object) -> None:
    assert classify(sequence=wrong) == Rejection(Reason.WRONG_TYPE, "sequence")


@pytest.mark.parametrize("wrong", ["1", True, 1.0, []])
def test_a_schema_version_that_is_no_integer(wrong: object) -> None:
    assert classify(schemaVersion=wrong) == Rejection(Reason.WRONG_TYPE, "schemaVersion")


def test_minus_zero_is_zero() -> None:
    assert classify_value(value().replace(b'"sequence": 0', b'"sequence": -0')) == classify()


@pytest.mark.parametrize(
    ("name", "longest"),
    [("eventId", 256), ("producerId", 256), ("page", 1_024), ("referrer", 1_024), ("productId", 256)],
)
def test_lengths_are_code_points(name: str, longest: int) -> None:
    assert isinstance(classify(**{name: "\U0001f600" * longest}), Event)
    assert classify(**{name: "x" * (longest + 1)}) == Rejection(Reason.WRONG_TYPE, name)


@pytest.mark.parametrize("amount", ["0", "007", "1.5", "9" * 18, "9" * 18 + ".999999"])
def test_amounts(amount: str) -> None:
    assert columns(classify(amount=amount))["amount"] == Decimal(amount)


@pytest.mark.parametrize(
    "amount", ["", "-1", "+1", "1.", ".5", "1e3", "1,5", " 1", "1\n", "9" * 19, "1.1234567", "\u0661"]
)
def test_amounts_that_break_the_pattern(amount: str) -> None:
    assert classify(amount=amount) == Rejection(Reason.WRONG_TYPE, "amount")


@pytest.mark.parametrize("currency", ["", "eur", "EU", "EURO", "EUR\n", "ÉUR", "E1R"])
def test_currencies_that_break_the_pattern(currency: str) -> None:
    assert classify(currency=currency) == Rejection(Reason.WRONG_TYPE, "currency")


@pytest.mark.parametrize("name", [name for name in STRINGS if name not in {"amount", "currency"}])
def test_nul_is_forbidden_in_contract_strings(name: str) -> None:
    assert classify(**{name: "a\0b"}) == Rejection(Reason.FORBIDDEN_CHARACTER, name)


def test_nul_is_allowed_where_the_contract_has_no_field() -> None:
    assert isinstance(classify(unknown="\0"), Event)


def test_details_are_cut() -> None:
    assert classify(eventType="T" * 100) == Rejection(Reason.UNKNOWN_EVENT_TYPE, "T" * 64)
    assert classify(eventTime="t" * 100) == Rejection(Reason.BAD_EVENT_TIME, "t" * 64)


def test_reasons_are_tried_in_order_and_fields_within_a_reason() -> None:
    breaks: dict[str, Any] = {"eventTime": "never", "eventType": "NEVER", "page": "\0", "sequence": "x", "userId": ""}
    expected = [
        ("userId", Rejection(Reason.MISSING_FIELD, "userId")),
        ("sequence", Rejection(Reason.WRONG_TYPE, "sequence")),
        ("page", Rejection(Reason.FORBIDDEN_CHARACTER, "page")),
        ("eventType", Rejection(Reason.UNKNOWN_EVENT_TYPE, "NEVER")),
        ("eventTime", Rejection(Reason.BAD_EVENT_TIME, "never")),
    ]
    for name, rejection in expected:
        assert classify(**breaks) == rejection
        del breaks[name]
    assert isinstance(classify(**breaks), Event)
    assert classify(device="", eventId="") == Rejection(Reason.MISSING_FIELD, "eventId")
    assert classify(sequence=-1, region=5) == Rejection(Reason.WRONG_TYPE, "region")


def test_of_duplicate_keys_the_last_wins() -> None:
    raw = value().replace(b'{"eventId"', b'{"page": 1, "eventId"')
    assert classify_value(raw) == classify()


def test_every_event_type_is_known() -> None:
    for event_type in EventType:
        assert isinstance(classify(eventType=event_type, amount="1", currency="EUR"), Event)
