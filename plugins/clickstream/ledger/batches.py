"""Ledger SQL of batches: claiming segments, registering attempts, releasing a batch that can't pass."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from clickstream.errors import RemedyRefused, StaleAttempt
from clickstream.ledger import hours

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from psycopg import Connection


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt at a batch, with the settings that the batch was claimed with."""

    attempt_id: UUID
    batch_id: int
    attempt: int
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SegmentFile:
    """A segment of the batch that has a file."""

    topic_id: str
    partition: int
    first_offset: int
    end_offset: int
    records: int
    path: str


@dataclass(frozen=True, kw_only=True)
class EventFile:
    """A live file of accepted events; the hour as YYYY-MM-DDTHH."""

    hour: str
    path: str
    records: int


def open_batch(conn: Connection[Any]) -> int | None:
    """The id of the open batch, if there is one."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute("SELECT batch_id FROM ledger.batches WHERE state = 'open'").fetchone()


def claim(conn: Connection[Any], *, max_offsets: int, settings: Mapping[str, Any], dag_run_id: str) -> int | None:
    """The open batch or, where there is none, a new one of the oldest unclaimed segments.

    Args:
        conn: Connection of the writer.
        max_offsets: Most offsets of a new batch; a single segment may have more.
        settings: What a new batch records; all of its attempts use these.
        dag_run_id: The run that claims.

    Returns:
        The batch's id; None where nothing waits.
    """
    with conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger.claim'))")
        batch_id: int | None = open_batch(conn)
        if batch_id is not None:
            return batch_id
        segments = _oldest_unclaimed(conn, max_offsets)
        if not segments:
            return None
        batch_id = cursor.execute(
            "INSERT INTO ledger.batches (planned, landed, absent, lost, settings, dag_run_id)"
            " SELECT sum(end_offset - first_offset), sum(records), sum(absent), sum(lost), %s, %s"
            " FROM ledger.segments WHERE segment_id = ANY(%s) RETURNING batch_id",
            [Jsonb(dict(settings)), dag_run_id, segments],
        ).fetchone()
        cursor.execute("UPDATE ledger.segments SET batch_id = %s WHERE segment_id = ANY(%s)", [batch_id, segments])
        return batch_id


def _oldest_unclaimed(conn: Connection[Any], max_offsets: int) -> list[int]:
    rows = conn.execute(
        "SELECT segment_id, end_offset - first_offset, claim_limit FROM ledger.segments"
        " WHERE batch_id IS NULL ORDER BY segment_id LIMIT 10000"
    ).fetchall()
    segments: list[int] = []
    offsets = 0
    for segment_id, size, limit in rows:
        max_offsets = min(max_offsets, limit or max_offsets)
        if segments and offsets + size > max_offsets:
            break
        segments.append(segment_id)
        offsets += size
    return segments


def register_attempt(conn: Connection[Any], batch_id: int, dag_run_id: str) -> Attempt:
    """A new attempt at an open batch, with its own id for its own folders; older ones are dead from now on.

    Raises:
        StaleAttempt: If the batch isn't open.
    """
    with conn.transaction(), conn.cursor(row_factory=class_row(Attempt)) as cursor:
        opened = conn.execute(
            "UPDATE ledger.batches SET attempt = attempt + 1 WHERE batch_id = %s AND state = 'open'"
            " RETURNING attempt, settings",
            [batch_id],
        ).fetchone()
        if opened is None:
            raise StaleAttempt(
                f"Batch {batch_id} is not open: it was published or released. Nothing is to be done; the next run"
                " claims what waits."
            )
        conn.execute("UPDATE ledger.attempts SET state = 'dead' WHERE batch_id = %s AND state = 'open'", [batch_id])
        number, settings = opened
        attempt = cursor.execute(
            "INSERT INTO ledger.attempts (batch_id, attempt, dag_run_id, erasures_seen)"
            " SELECT %s, %s, %s, count(*) FROM ledger.erasures WHERE kind = 'user'"
            " RETURNING attempt_id, batch_id, attempt, %s::jsonb AS settings",
            [batch_id, number, dag_run_id, Jsonb(settings)],
        ).fetchone()
        if attempt is None:
            raise AssertionError
        return attempt


def segment_files(conn: Connection[Any], batch_id: int) -> list[SegmentFile]:
    """The batch's segments that have a file."""
    with conn.cursor(row_factory=class_row(SegmentFile)) as cursor:
        return cursor.execute(
            "SELECT topic_id, partition, first_offset, end_offset, records, path FROM ledger.segments"
            " WHERE batch_id = %s AND path IS NOT NULL ORDER BY topic_id, partition, first_offset",
            [batch_id],
        ).fetchall()


# The hours that an event of the batch can lie in and not be late; with historic records, all.
WITHIN_REACH = """
(
    SELECT sum(historic) AS historic, min(first_record_at) AS first_record_at, max(last_record_at) AS last_record_at
    FROM ledger.segments WHERE batch_id = %(batch_id)s) s
WHERE (s.historic > 0
    OR f.hour > s.first_record_at - %(allowed_lateness)s - interval '1 hour'
   AND f.hour <= s.last_record_at + %(max_future)s)
"""
LIVE_EVENT_FILES = f"""
SELECT f.hour, f.path, f.records FROM ledger.event_files f, {WITHIN_REACH} AND f.live ORDER BY f.hour, f.path
"""  # noqa: S608 - a constant of this module
RETIRED_WITHIN_REACH = f"""
SELECT f.hour FROM ledger.retired_hours f, {WITHIN_REACH} ORDER BY f.hour
"""  # noqa: S608 - a constant of this module


def live_event_files(conn: Connection[Any], attempt: Attempt) -> list[EventFile]:
    """The manifest of an attempt: the live event files of every hour that an accepted event of its batch can lie in.

    Without historic records those hours are bounded by the records' timestamps, the allowed lateness and the allowed
    future, so that the manifest doesn't grow with history.
    """
    rows = conn.execute(LIVE_EVENT_FILES, _reach(attempt))
    return [EventFile(hour=hours.spell(hour), path=path, records=records) for hour, path, records in rows]


def retired_hours_within_reach(conn: Connection[Any], attempt: Attempt) -> list[str]:
    """The retired hours among those, as YYYY-MM-DDTHH."""
    return [hours.spell(hour) for (hour,) in conn.execute(RETIRED_WITHIN_REACH, _reach(attempt))]


def _reach(attempt: Attempt) -> dict[str, Any]:
    return {
        "batch_id": attempt.batch_id,
        "allowed_lateness": timedelta(seconds=attempt.settings["allowed_lateness_seconds"]),
        "max_future": timedelta(seconds=attempt.settings["max_future_seconds"]),
    }


def retired_hours(conn: Connection[Any]) -> list[str]:
    """The retired hours as YYYY-MM-DDTHH."""
    rows = conn.execute("SELECT hour FROM ledger.retired_hours ORDER BY hour")
    return [hours.spell(hour) for (hour,) in rows]


@dataclass(frozen=True, kw_only=True)
class Release:
    """What releasing a batch gives back."""

    batch_id: int
    attempts: int
    segments: int
    offsets: int
    next_limit: int


def release(conn: Connection[Any], batch_id: int, *, dry_run: bool) -> Release:
    """Give an open batch's segments back, to be claimed in batches of at most half its offsets.

    Attempts that still run can't publish any more.

    Raises:
        RemedyRefused: If the batch isn't open.
    """
    with conn.transaction(force_rollback=dry_run), conn.cursor(row_factory=class_row(Release)) as cursor:
        released = conn.execute(
            "UPDATE ledger.batches SET state = 'released' WHERE batch_id = %s AND state = 'open'", [batch_id]
        ).rowcount
        if released != 1:
            raise RemedyRefused(
                f"Batch {batch_id} is not open, so there is nothing to release. The open batch is {open_batch(conn)}."
            )
        summary = cursor.execute(
            "SELECT b.batch_id, b.attempt AS attempts, count(*) AS segments, b.planned AS offsets,"
            " greatest(1, b.planned / 2) AS next_limit"
            " FROM ledger.batches b JOIN ledger.segments s USING (batch_id) WHERE b.batch_id = %s GROUP BY b.batch_id",
            [batch_id],
        ).fetchone()
        if summary is None:
            raise AssertionError
        conn.execute(
            "UPDATE ledger.segments SET batch_id = NULL, claim_limit = %s WHERE batch_id = %s",
            [summary.next_limit, batch_id],
        )
        conn.execute("UPDATE ledger.attempts SET state = 'dead' WHERE batch_id = %s", [batch_id])
        return summary
