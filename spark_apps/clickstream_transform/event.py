"""A record's value as an event or a rejection: the part of the contract that needs nothing but the value.

Plain Python, without Spark. What also depends on the record's timestamp, headers or on other records
(`future_event_time`, late, duplicate) is decided by the steps `classify` and `dedupe`.
"""

from decimal import Decimal
from typing import Final, NamedTuple, cast

from clickstream_transform.event_schema import (
    FIELDS,
    MAX_VALUE_BYTES,
    SCHEMA_VERSION,
    EventType,
    IntegerField,
    Reason,
    TextField,
)
from clickstream_transform.event_time import parse_event_time
from clickstream_transform.fingerprint import amount_identity, fingerprint
from clickstream_transform.strict_json import OutsizedInteger, parse_json

_EVENT_TYPES: Final = frozenset(EventType)
_MAX_VERSION_DETAIL = 32
_MAX_VALUE_DETAIL = 64


class Event(NamedTuple):
    """A valid event, in the columns of the events zone. `event_time` is in microseconds since the epoch."""

    event_id: str
    user_id: str
    session_id: str
    device: str
    region: str
    producer_id: str
    event_type: str
    event_time: int
    page: str
    sequence: int
    schema_version: int
    referrer: str | None
    product_id: str | None
    amount: Decimal | None
    currency: str | None
    fingerprint: bytes


class Rejection(NamedTuple):
    """The first reason that holds against a value.

    `detail` is the field's name (missing_field, wrong_type, forbidden_character), the offending version,
    type or time cut to a bounded length, or None where the reason says it all.
    """

    reason: Reason
    detail: str | None = None


def classify_value(value: bytes | None) -> Event | Rejection:
    """Decide whether a record's value is a valid event, by the first rule it breaks in the contract's order."""
    if value is None:
        return Rejection(Reason.NULL_VALUE)
    if len(value) > MAX_VALUE_BYTES:
        return Rejection(Reason.TOO_LARGE)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Rejection(Reason.NOT_UTF8)
    try:
        document = parse_json(text)
    except ValueError:
        return Rejection(Reason.NOT_JSON)
    if not isinstance(document, dict):
        return Rejection(Reason.NOT_AN_OBJECT)
    return _classify_object(document)


def _classify_object(document: dict[str, object]) -> Event | Rejection:
    version = document.get("schemaVersion")
    if type(version) in _INTEGER_TYPES and version != SCHEMA_VERSION:
        return Rejection(Reason.UNSUPPORTED_SCHEMA_VERSION, str(version)[:_MAX_VERSION_DETAIL])
    event_type = document.get("eventType")
    for field in _REQUIRED_ON_PURCHASE if event_type == EventType.PURCHASE else _REQUIRED:
        if document.get(field.name) in _ABSENT_IF_REQUIRED:
            return Rejection(Reason.MISSING_FIELD, field.name)
    for field in FIELDS:
        value = document.get(field.name)
        if value is not None and not field.admits(value):
            return Rejection(Reason.WRONG_TYPE, field.name)
    for name in _TEXT_NAMES:
        text = cast("str | None", document.get(name))
        if text is not None and "\0" in text:
            return Rejection(Reason.FORBIDDEN_CHARACTER, name)
    return _classify_content(document)


def _classify_content(document: dict[str, object]) -> Event | Rejection:
    """Classify an object whose contract fields are present as required, and of the right types."""
    texts = cast("dict[str, str]", document)
    numbers = cast("dict[str, int]", document)
    if texts["eventType"] not in _EVENT_TYPES:
        return Rejection(Reason.UNKNOWN_EVENT_TYPE, texts["eventType"][:_MAX_VALUE_DETAIL])
    event_time = parse_event_time(texts["eventTime"])
    if event_time is None:
        return Rejection(Reason.BAD_EVENT_TIME, texts["eventTime"][:_MAX_VALUE_DETAIL])
    amount = texts.get("amount")
    identity = {name: text for name in _TEXT_NAMES if (text := texts.get(name)) is not None}
    identity |= {name: str(numbers[name]) for name in _INTEGER_NAMES}
    identity["eventTime"] = str(event_time)
    if amount is not None:
        identity["amount"] = amount_identity(amount)
    return Event(
        event_id=texts["eventId"],
        user_id=texts["userId"],
        session_id=texts["sessionId"],
        device=texts["device"],
        region=texts["region"],
        producer_id=texts["producerId"],
        event_type=texts["eventType"],
        event_time=event_time,
        page=texts["page"],
        sequence=numbers["sequence"],
        schema_version=numbers["schemaVersion"],
        referrer=texts.get("referrer"),
        product_id=texts.get("productId"),
        amount=None if amount is None else Decimal(amount),
        currency=texts.get("currency"),
        fingerprint=fingerprint(identity),
    )


_INTEGER_TYPES = (int, OutsizedInteger)
_ABSENT_IF_REQUIRED = (None, "")
_REQUIRED = tuple(field for field in FIELDS if field.required)
_REQUIRED_ON_PURCHASE = tuple(field for field in FIELDS if field.required or field.required_on)
_TEXT_NAMES = tuple(field.name for field in FIELDS if isinstance(field, TextField))
_INTEGER_NAMES = tuple(field.name for field in FIELDS if isinstance(field, IntegerField))
