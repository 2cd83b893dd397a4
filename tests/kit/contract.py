"""A strict reading of the event contract, sharing nothing with the code that makes events."""

import json
import re
from datetime import UTC, datetime

REQUIRED_TEXT = ("eventId", "userId", "sessionId", "device", "region", "producerId")
TYPES = {"PAGE_VIEW", "ADD_TO_CART", "PURCHASE", "LOGIN", "LOGOUT"}
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")
AMOUNT = re.compile(r"[0-9]{1,18}(\.[0-9]{1,6})?")
FIELDS = {
    *REQUIRED_TEXT,
    *("eventType", "eventTime", "page", "sequence", "schemaVersion", "referrer", "productId", "amount", "currency"),
}


def checked(value: bytes) -> dict[str, object]:
    """Decode a record's value, asserting every rule of the event contract."""
    assert b"\n" not in value
    assert len(value) <= 262_144
    event: dict[str, object] = json.loads(value.decode("utf-8", errors="strict"))
    assert set(event) <= FIELDS
    for name in REQUIRED_TEXT:
        assert 1 <= len(text(event, name)) <= 256, name
    assert event["eventType"] in TYPES
    assert 1 <= len(text(event, "page")) <= 1_024
    assert TIME.fullmatch(text(event, "eventTime"))
    assert 2000 <= time_of(event).year <= 2100
    assert event["schemaVersion"] == 1
    sequence = event["sequence"]
    assert type(sequence) is int
    assert 0 <= sequence < 2**63
    if "referrer" in event:
        assert len(text(event, "referrer")) <= 1_024
    if "productId" in event:
        assert 1 <= len(text(event, "productId")) <= 256
    assert event["eventType"] != "PURCHASE" or {"amount", "currency"} <= set(event)
    if "amount" in event:
        assert AMOUNT.fullmatch(text(event, "amount"))
    if "currency" in event:
        assert re.fullmatch(r"[A-Z]{3}", text(event, "currency"))
    assert not any("\0" in item for item in event.values() if isinstance(item, str))
    return event


def text(event: dict[str, object], name: str) -> str:
    item = event[name]
    assert isinstance(item, str), name
    return item


def time_of(event: dict[str, object]) -> datetime:
    return datetime.fromisoformat(text(event, "eventTime")).astimezone(UTC)
