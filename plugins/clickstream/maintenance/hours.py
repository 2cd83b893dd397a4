"""Retire the hours whose events have been kept long enough: whole UTC days, written down, never recomputed."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from clickstream.errors import RetentionRefused
from clickstream.ledger import retirement
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from psycopg import Connection

    from clickstream.settings import Settings


def retire_hours(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Retire days that ended, and were published last, `events_days` ago; each in a transaction of its own.

    Events outlive Kafka's retention plus the allowed lateness, measured from the oldest record that may not be
    published: whatever Kafka can still give is judged by the same hours, however late it is drained. And a day goes
    only once analysts have all of it as a published day.

    Raises:
        RetentionRefused: Kafka keeps records for so long that events of this period could still be on time.
    """
    horizon = retirement.horizon(conn)
    keep = timedelta(days=settings.retention.events_days)
    lateness = timedelta(hours=settings.allowed_lateness_hours)
    if math.isinf(horizon.kafka_seconds) or timedelta(seconds=horizon.kafka_seconds) + lateness > keep:
        kept = "for ever" if math.isinf(horizon.kafka_seconds) else f"for {horizon.kafka_seconds / 86_400:g} days"
        raise RetentionRefused(
            f"CLICKSTREAM_KEEP_EVENTS_DAYS={settings.retention.events_days} is too short: {settings.topic} keeps"
            f" records {kept}, and one may be {settings.allowed_lateness_hours} hours late. No hour was retired. Raise"
            " it, or give the topic the retention.ms of CLICKSTREAM_KEEP_KAFKA_DAYS (`make up`, on a host"
            " docker/host/init)."
        )
    outcome = Outcome(what="hours retired")
    if horizon.unpublished_since is None:
        outcome.lines.append("a partition has no watermark yet, so nobody knows what is not published: none may go")
        return outcome
    until = min(
        datetime.now(UTC) - keep, horizon.unpublished_since - lateness - timedelta(seconds=horizon.kafka_seconds)
    )
    for aged in retirement.aged_days(conn, until=until, keep_days=settings.retention.events_days):
        if not aged.published:
            outcome.lines.append(f"{aged.day}: waits until it is a published day with all of its events")
        elif dry_run or retirement.retire_day(conn, aged.day, until=until, keep_days=settings.retention.events_days):
            outcome.items += 24
            outcome.bytes += aged.bytes
            outcome.lines.append(f"{aged.day}: {aged.events} events in {aged.files} files, {aged.bytes} bytes")
    return outcome
