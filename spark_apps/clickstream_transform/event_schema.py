"""The fields of a clickstream event and their rules: the one place that knows them.

Columns, identity and classification derive from `FIELDS`. Their order is the contract's, in which a record's first
violation is looked for.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_VALUE_BYTES: Final = 262_144
"""Longest record value that is looked into; a longer one is `too_large`."""

MAX_NESTING_LEVELS: Final = 1_024
"""Deepest JSON nesting, the root object being level 1."""

MAX_INTEGER: Final = 2**63 - 1
SCHEMA_VERSION: Final = 1


class EventType(StrEnum):
    """What a visitor did."""

    PAGE_VIEW = "PAGE_VIEW"
    ADD_TO_CART = "ADD_TO_CART"
    PURCHASE = "PURCHASE"
    LOGIN = "LOGIN"
    LOGOUT = "LOGOUT"


class Reason(StrEnum):
    """Why a record is rejected, in the order in which the reasons are tried."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    UNSUPPORTED_SCHEMA_VERSION = "unsupported_schema_version"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    FORBIDDEN_CHARACTER = "forbidden_character"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    BAD_EVENT_TIME = "bad_event_time"
    FUTURE_EVENT_TIME = "future_event_time"


@dataclass(frozen=True)
class TextField:
    """A JSON string of the contract, and a column of text.

    Attributes:
        name: key in the JSON object.
        required: whether absence, null and "" reject the record.
        required_on: the event type that makes an otherwise optional field required.
        max_length: greatest length in Unicode code points; None where another rule bounds it.
        pattern: what the whole string must match.
    """

    name: str
    required: bool = True
    required_on: EventType | None = None
    max_length: int | None = None
    pattern: re.Pattern[str] | None = None

    @property
    def column(self) -> str:
        """Name of the field's column."""
        return _snake_case(self.name)

    def admits(self, value: object) -> bool:
        """Tell whether a present JSON value has the field's type, length and pattern."""
        return (
            type(value) is str
            and (self.max_length is None or len(value) <= self.max_length)
            and (self.pattern is None or self.pattern.fullmatch(value) is not None)
        )


@dataclass(frozen=True)
class TimeField(TextField):
    """The event time: a JSON string that `event_time` reads, and a column of timestamps."""


@dataclass(frozen=True)
class AmountField(TextField):
    """A decimal number as a JSON string, at most 18 digits before the point and 6 after it; a decimal column."""

    pattern: re.Pattern[str] | None = re.compile(r"[0-9]{1,18}(\.[0-9]{1,6})?")


@dataclass(frozen=True)
class IntegerField:
    """A JSON integer of the contract, 0 to 2^63-1, always required; a column of 64-bit integers."""

    name: str
    required: bool = True
    required_on: EventType | None = None

    @property
    def column(self) -> str:
        """Name of the field's column."""
        return _snake_case(self.name)

    def admits(self, value: object) -> bool:
        """Tell whether a present JSON value is an integer in range (true and 1.0 are not)."""
        return type(value) is int and 0 <= value <= MAX_INTEGER


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


Field = TextField | IntegerField

FIELDS: Final[tuple[Field, ...]] = (
    TextField("eventId", max_length=256),
    TextField("userId", max_length=256),
    TextField("sessionId", max_length=256),
    TextField("device", max_length=256),
    TextField("region", max_length=256),
    TextField("producerId", max_length=256),
    TextField("eventType"),
    TimeField("eventTime"),
    TextField("page", max_length=1_024),
    IntegerField("sequence"),
    IntegerField("schemaVersion"),
    TextField("referrer", required=False, max_length=1_024),
    TextField("productId", required=False, max_length=256),
    AmountField("amount", required=False, required_on=EventType.PURCHASE),
    TextField("currency", required=False, required_on=EventType.PURCHASE, pattern=re.compile(r"[A-Z]{3}")),
)
