"""Events of a moment, as values to produce and as records of a log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.kit.records import event
from tests.oracle import Record


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def values(count: int, **overrides: Any) -> list[tuple[int, bytes | None]]:
    now = datetime.now(UTC)
    return [
        (
            number % 2,
            json.dumps(
                event(
                    eventId=f"e{number}",
                    userId=f"u{number % 7}",
                    sessionId=f"s{number % 11}",
                    eventTime=at(now - timedelta(seconds=number)),
                    **overrides,
                )
            ).encode(),
        )
        for number in range(count)
    ]


def event_record(offset: int, moment: datetime, *, landed_at: datetime | None = None, **fields: Any) -> Record:
    """A record of partition 0 with an event of this moment, appended to the log then unless told otherwise."""
    value = json.dumps(event(**{"eventId": f"e{offset}", "eventTime": at(moment), **fields})).encode()
    return Record("t", 0, offset, int((landed_at or moment).timestamp() * 1000), None, value)
