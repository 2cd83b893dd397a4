"""The clickstream event, version 1, and its one way of becoming bytes."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SCHEMA_VERSION = 1
MAX_PAGE = 1_024
MAX_REFERRER = 1_024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing a visitor did; field by field what the event contract asks for.

    `event_time_ms` is milliseconds since the epoch. Optional fields that are None are left out of the JSON.
    """

    event_id: str
    user_id: str
    session_id: str
    event_type: str
    event_time_ms: int
    page: str
    device: str
    region: str
    producer_id: str
    sequence: int
    referrer: str | None = None
    product_id: str | None = None
    amount: str | None = None
    currency: str | None = None

    @property
    def key(self) -> bytes:
        """The Kafka key: a session stays in one partition."""
        return self.session_id.encode()

    def to_json(self) -> bytes:
        """Encode as compact UTF-8 JSON, always with the same bytes for the same event."""
        fields = {
            "schemaVersion": SCHEMA_VERSION,
            "eventId": self.event_id,
            "eventType": self.event_type,
            "eventTime": format_time(self.event_time_ms),
            "userId": self.user_id,
            "sessionId": self.session_id,
            "page": self.page,
            "referrer": self.referrer,
            "productId": self.product_id,
            "amount": self.amount,
            "currency": self.currency,
            "device": self.device,
            "region": self.region,
            "producerId": self.producer_id,
            "sequence": self.sequence,
        }
        present = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()


def format_time(epoch_ms: int) -> str:
    """Format milliseconds since the epoch as RFC 3339 in UTC, `2026-11-22T18:54:03.417Z`."""
    time = _EPOCH + timedelta(milliseconds=epoch_ms)
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
