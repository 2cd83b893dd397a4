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
    AmountField,
    EventType,
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
    """A valid event.

    `values` are those of `FIELDS`, in their order, None where absent: texts as they are, integers as int, amounts as
    Decimal, the time as microseconds since the epoch.
    """

    values: tuple[object, ...]
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
    if texts["eventType"] not in _EVENT_TYPES:
        return Rejection(Reason.UNKNOWN_EVENT_TYPE, texts["eventType"][:_MAX_VALUE_DETAIL])
    event_time = parse_event_time(texts["eventTime"])
    if event_time is None:
        return Rejection(Reason.BAD_EVENT_TIME, texts["eventTime"][:_MAX_VALUE_DETAIL])
    values = {name: document.get(name) for name in _NAMES}
    values["eventTime"] = event_time
    identity = {name: str(value) for name, value in values.items() if value is not None}
    for name in _AMOUNT_NAMES:
        if (amount := texts.get(name)) is not None:
            values[name] = Decimal(amount)
            identity[name] = amount_identity(amount)
    return Event(tuple(values.values()), fingerprint(identity))


_INTEGER_TYPES = (int, OutsizedInteger)
_ABSENT_IF_REQUIRED = (None, "")
_REQUIRED = tuple(field for field in FIELDS if field.required)
_REQUIRED_ON_PURCHASE = tuple(field for field in FIELDS if field.required or field.required_on)
_NAMES = tuple(field.name for field in FIELDS)
_TEXT_NAMES = tuple(field.name for field in FIELDS if isinstance(field, TextField))
_AMOUNT_NAMES = tuple(field.name for field in FIELDS if isinstance(field, AmountField))
