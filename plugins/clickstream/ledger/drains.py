"""Ledger SQL of the drain: what a plan saw, which ranges it gave out, and the commit of what was landed."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from clickstream.errors import StaleAttempt
from clickstream.ledger import erasures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from psycopg import Connection

    from clickstream.errors import PartitionStopped


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A partition's row; offsets as in `ledger.partitions`."""

    topic: str
    topic_id: str
    partition: int
    next_offset: int
    log_end_offset: int
    stopped: str | None = None


@dataclass(frozen=True, kw_only=True)
class Range:
    """Offsets [first_offset, end_offset) of a partition."""

    topic: str
    topic_id: str
    partition: int
    first_offset: int
    end_offset: int


@dataclass(frozen=True, kw_only=True)
class Landing:
    """What an attempt landed of a range: its counts, and the file unless no record was there."""

    topic_id: str
    partition: int
    first_offset: int
    end_offset: int
    records: int
    absent: int
    historic: int
    first_record_at: datetime | None
    last_record_at: datetime | None
    path: str | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A stopped partition and why."""

    topic: str
    topic_id: str
    partition: int
    stopped: str
    stopped_reason: str


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Outcome of a commit: how many landings became segments now, and how many had before."""

    recorded: int
    already: int


def progress(conn: Connection[Any], topic: str) -> list[Progress]:
    """Every partition of every incarnation of the topic that isn't closed."""
    with conn.cursor(row_factory=class_row(Progress)) as cursor:
        return cursor.execute(
            "SELECT topic, topic_id, partition, next_offset, log_end_offset, stopped FROM ledger.partitions"
            " WHERE topic = %s AND closed_at IS NULL ORDER BY topic_id, partition",
            [topic],
        ).fetchall()


def adopt(
    conn: Connection[Any],
    *,
    topic: str,
    topic_id: str,
    partition: int,
    first_offset: int,
    observed_at: datetime,
) -> None:
    """Begin with a partition at `first_offset`; harmless where it is known."""
    conn.execute(
        "INSERT INTO ledger.partitions (topic, topic_id, partition, first_offset, next_offset,"
        " log_start_offset, log_end_offset, observed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        [topic, topic_id, partition, first_offset, first_offset, first_offset, first_offset, observed_at],
    )


def is_known(conn: Connection[Any], topic: str) -> bool:
    """Whether any incarnation of the topic was ever drained."""
    return conn.execute("SELECT FROM ledger.partitions WHERE topic = %s LIMIT 1", [topic]).fetchone() is not None


def observe(
    conn: Connection[Any],
    *,
    topic_id: str,
    partition: int,
    start: int,
    end: int,
    settled: bool,
    retention_seconds: float,
    observed_at: datetime,
    stop: PartitionStopped | None,
) -> None:
    """Write down the log's bounds and what stops the partition, if anything, unless a later plan has."""
    conn.execute(
        "UPDATE ledger.partitions SET log_start_offset = %(start)s, log_end_offset = %(end)s, settled = %(settled)s,"
        " caught_up_at = CASE WHEN next_offset >= log_end_offset AND settled THEN observed_at ELSE caught_up_at END,"
        " retention_seconds = %(retention_seconds)s, observed_at = %(observed_at)s,"
        " stopped = %(kind)s::text, stopped_reason = %(reason)s::text, stopped_at ="
        " CASE WHEN stopped = %(kind)s::text THEN stopped_at WHEN %(kind)s::text IS NOT NULL THEN now() END"
        " WHERE topic_id = %(topic_id)s AND partition = %(partition)s AND observed_at <= %(observed_at)s",
        {
            "start": start,
            "end": end,
            "settled": settled,
            "retention_seconds": retention_seconds,
            "observed_at": observed_at,
            "kind": stop and stop.kind,
            "reason": stop and str(stop),
            "topic_id": topic_id,
            "partition": partition,
        },
    )


def stop(conn: Connection[Any], topic_id: str, partition: int, error: PartitionStopped) -> None:
    """Mark a partition as stopped; the time is that of the first sight of this condition."""
    conn.execute(
        "UPDATE ledger.partitions SET stopped_at = CASE WHEN stopped = %s THEN stopped_at ELSE now() END,"
        " stopped = %s, stopped_reason = %s WHERE topic_id = %s AND partition = %s",
        [error.kind, error.kind, str(error), topic_id, partition],
    )


def stops(conn: Connection[Any], topic: str) -> list[Stop]:
    """The partitions of the topic that are stopped."""
    with conn.cursor(row_factory=class_row(Stop)) as cursor:
        return cursor.execute(
            "SELECT topic, topic_id, partition, stopped, stopped_reason FROM ledger.partitions"
            " WHERE topic = %s AND stopped IS NOT NULL AND closed_at IS NULL ORDER BY topic_id, partition",
            [topic],
        ).fetchall()


def register_drain(conn: Connection[Any], ranges: Sequence[Range], dag_run_id: str) -> int:
    """Give out ranges as one drain; returns its id."""
    with conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        drain_id: int | None = cursor.execute(
            "INSERT INTO ledger.drains (dag_run_id) VALUES (%s) RETURNING drain_id", [dag_run_id]
        ).fetchone()
        cursor.executemany(
            "INSERT INTO ledger.drain_ranges VALUES (%s, %s, %s, %s, %s)",
            [(drain_id, r.topic_id, r.partition, r.first_offset, r.end_offset) for r in ranges],
        )
    if drain_id is None:
        raise AssertionError
    return drain_id


def open_ranges(conn: Connection[Any], drain_id: int) -> list[Range]:
    """The drain's ranges that still begin where their partition stands."""
    with conn.cursor(row_factory=class_row(Range)) as cursor:
        return cursor.execute(
            "SELECT p.topic, r.topic_id, r.partition, r.first_offset, r.end_offset"
            " FROM ledger.drain_ranges r JOIN ledger.partitions p USING (topic_id, partition)"
            " WHERE r.drain_id = %s AND p.next_offset = r.first_offset AND p.closed_at IS NULL"
            " ORDER BY r.topic_id, r.partition",
            [drain_id],
        ).fetchall()


def register_attempt(conn: Connection[Any], drain_id: int, dag_run_id: str, *, erasures_seen: int = 0) -> UUID:
    """A new attempt at a drain, with its own id for its own folders.

    Args:
        conn: Connection of the writer.
        drain_id: The drain.
        dag_run_id: The run that tries.
        erasures_seen: Users on the erasure list that the attempt applies; with one more it can't be committed.
    """
    with conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        cursor.execute("SELECT drain_id FROM ledger.drains WHERE drain_id = %s FOR UPDATE", [drain_id])
        return UUID(
            str(
                cursor.execute(
                    "INSERT INTO ledger.attempts (drain_id, attempt, dag_run_id, erasures_seen)"
                    " SELECT %s, count(*) + 1, %s, %s FROM ledger.attempts WHERE drain_id = %s RETURNING attempt_id",
                    [drain_id, dag_run_id, erasures_seen, drain_id],
                ).fetchone()
            )
        )


def bury_superseded_attempts(conn: Connection[Any]) -> None:
    """Call open attempts dead whose partitions have all moved on, so that their files may be swept."""
    conn.execute(
        "UPDATE ledger.attempts a SET state = 'dead' WHERE a.state = 'open' AND a.drain_id IS NOT NULL AND NOT EXISTS ("
        " SELECT FROM ledger.drain_ranges r JOIN ledger.partitions p USING (topic_id, partition)"
        " WHERE r.drain_id = a.drain_id AND p.next_offset = r.first_offset AND p.closed_at IS NULL)"
    )


def report_landings(conn: Connection[Any], attempt_id: UUID, landings: Sequence[Landing]) -> None:
    """Report what an attempt has written. It stays without effect until `commit`."""
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.landings VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(attempt_id, *astuple(landing)) for landing in landings],
        )


ADVANCE = """
UPDATE ledger.partitions
SET next_offset = %(end_offset)s, last_record_at = greatest(last_record_at, %(last_record_at)s)
WHERE topic_id = %(topic_id)s AND partition = %(partition)s AND next_offset = %(first_offset)s AND closed_at IS NULL
"""

BECOME_SEGMENT = """
INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost, historic,
    first_record_at, last_record_at, path, bytes, attempt_id, previous_end)
SELECT l.topic_id, l.partition, l.first_offset, l.end_offset, l.records, l.absent, 0, l.historic,
    l.first_record_at, l.last_record_at, l.path, l.bytes, l.attempt_id,
    CASE WHEN l.first_offset > p.first_offset THEN l.first_offset END
FROM ledger.landings l JOIN ledger.partitions p USING (topic_id, partition)
WHERE l.attempt_id = %(attempt_id)s AND l.topic_id = %(topic_id)s AND l.partition = %(partition)s
"""

IS_SEGMENT = """
SELECT count(*) FROM ledger.segments
WHERE attempt_id = %(attempt_id)s AND topic_id = %(topic_id)s AND partition = %(partition)s
  AND first_offset = %(first_offset)s AND end_offset = %(end_offset)s
"""


def commit(conn: Connection[Any], attempt_id: UUID, verify: Callable[[Sequence[Landing]], None]) -> Commit:
    """Turn an attempt's landings into segments, by compare-and-swap of each partition's next offset.

    In one transaction; a partition that has moved on meanwhile does not undo the others. Doing it again, for
    example because the connection died after COMMIT, finds the segments recorded.

    Args:
        conn: Connection of the writer, outside of a transaction, READ COMMITTED.
        attempt_id: The attempt of a drain.
        verify: Raises unless the files of these landings are as reported.

    Raises:
        StaleAttempt: If a partition stood elsewhere, or a user was erased since the attempt began. What could be
            recorded is.
    """
    stale: list[str] = []
    already = 0
    advanced: list[Landing] = []
    with conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        erasures.hold(conn)
        outdated = erasures.has_grown_since(conn, attempt_id)
        for landing in _landings(conn, attempt_id):
            values = {"attempt_id": attempt_id, **vars(landing)}
            if not outdated and cursor.execute(ADVANCE, values).rowcount == 1:
                cursor.execute(BECOME_SEGMENT, values)
                advanced.append(landing)
            elif cursor.execute(IS_SEGMENT, values).fetchone():
                already += 1
            elif outdated:
                stale.append(f"a user was erased meanwhile, whom partition {landing.partition} may hold")
            else:
                stale.append(
                    f"partition {landing.partition} no longer stands at {landing.first_offset}"
                    f" (topic_id {landing.topic_id})"
                )
        verify(advanced)
        cursor.execute(
            "UPDATE ledger.attempts SET state = %s WHERE attempt_id = %s AND state = 'open'",
            ["committed" if advanced else "dead", attempt_id],
        )
    if stale:
        raise StaleAttempt(
            f"Attempt {attempt_id} came too late: {'; '.join(stale)}. Nothing is to be done: where another"
            " attempt has landed these offsets, the next drain goes on after them; else it lands them anew."
        )
    return Commit(recorded=len(advanced), already=already)


def _landings(conn: Connection[Any], attempt_id: UUID) -> list[Landing]:
    with conn.cursor(row_factory=class_row(Landing)) as cursor:
        return cursor.execute(
            "SELECT topic_id, partition, first_offset, end_offset, records, absent, historic, first_record_at,"
            " last_record_at, path, bytes FROM ledger.landings WHERE attempt_id = %s ORDER BY topic_id, partition",
            [attempt_id],
        ).fetchall()


def next_offsets(conn: Connection[Any], topic: str) -> dict[int, int]:
    """The next offset to land by partition, of the incarnations that aren't closed."""
    return {row.partition: row.next_offset for row in progress(conn, topic)}


def declare_lost(conn: Connection[Any], lost: Range, *, kind: str, reason: str, dag_run_id: str, close: bool) -> None:
    """Write down offsets as lost: a segment without a file, and the partition moves past them.

    Args:
        conn: Connection of the writer.
        lost: The offsets; may be empty where only the incarnation is closed.
        kind: The condition, as in `ledger.partitions.stopped`.
        reason: What the person who declared it wrote.
        dag_run_id: The run of `declare_loss`.
        close: Whether this incarnation of the topic is gone for good.

    Raises:
        StaleAttempt: If the partition has moved since the loss was worked out.
    """
    values = {**vars(lost), "kind": kind, "reason": reason, "dag_run_id": dag_run_id, "close": close}
    with conn.transaction():
        moved = conn.execute(
            "UPDATE ledger.partitions SET next_offset = %(end_offset)s, stopped = NULL, stopped_reason = NULL,"
            " stopped_at = NULL, closed_at = CASE WHEN %(close)s THEN now() END"
            " WHERE topic_id = %(topic_id)s AND partition = %(partition)s AND next_offset = %(first_offset)s"
            " AND closed_at IS NULL",
            values,
        ).rowcount
        if moved != 1:
            raise StaleAttempt(
                f"partition {lost.partition} no longer stands at {lost.first_offset}; nothing was declared."
                " Run declare_loss once more to see what is lost now."
            )
        if lost.end_offset > lost.first_offset:
            conn.execute(
                "INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost,"
                " historic, previous_end) SELECT topic_id, partition, %(first_offset)s, %(end_offset)s, 0, 0,"
                " %(end_offset)s - %(first_offset)s, 0,"
                " CASE WHEN %(first_offset)s > first_offset THEN %(first_offset)s END"
                " FROM ledger.partitions WHERE topic_id = %(topic_id)s AND partition = %(partition)s",
                values,
            )
        conn.execute(
            "INSERT INTO ledger.losses (topic_id, partition, first_offset, end_offset, kind, reason, dag_run_id)"
            " VALUES (%(topic_id)s, %(partition)s, %(first_offset)s, %(end_offset)s, %(kind)s, %(reason)s,"
            " %(dag_run_id)s)",
            values,
        )
