"""Ledger SQL of publishing: one transaction that makes an attempt's results the truth, or changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.errors import CheckViolation
from psycopg.rows import scalar_row

from clickstream.errors import ConservationBroken, StaleAttempt, StaleBase
from clickstream.ledger import hours

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from psycopg import Connection


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A batch's records by disposition, as counted by the attempt."""

    landed: int
    accepted: int
    duplicate: int
    late: int
    rejected: int
    id_conflicts: int


@dataclass(frozen=True)
class Table:
    """A published table: the window it belongs to is its first two columns."""

    name: str
    columns: tuple[str, ...]


KEY = ("window_start", "window_minutes")
TRAFFIC = Table(
    "traffic_by_window",
    (*KEY, "events", "page_views", "add_to_carts", "purchases", "logins", "logouts", "users", "sessions"),
)


RECORD_COUNTS = """
UPDATE ledger.batches b
SET state = 'published', published_at = now(), landed = %(landed)s, accepted = %(accepted)s,
    duplicate = %(duplicate)s, late = %(late)s, rejected = %(rejected)s, id_conflicts = %(id_conflicts)s
FROM ledger.attempts a
WHERE a.attempt_id = %(attempt_id)s AND b.batch_id = a.batch_id AND b.state = 'open' AND b.attempt = a.attempt
RETURNING b.batch_id
"""


def record_counts(conn: Connection[Any], attempt_id: UUID, counts: Counts) -> int | None:
    """The guarded first statement: the batch is open, and this attempt is its newest.

    Returns:
        The batch's id; None where this very attempt has published before (the connection died after COMMIT).

    Raises:
        StaleAttempt: If the batch isn't open or a newer attempt exists.
        ConservationBroken: If the counts don't add up to the records in the batch's segments.
    """
    values = {"attempt_id": attempt_id, **vars(counts)}
    with conn.cursor(row_factory=scalar_row) as cursor:
        try:
            batch_id: int | None = cursor.execute(
                RECORD_COUNTS,
                values,
            ).fetchone()
        except CheckViolation as error:
            raise ConservationBroken(
                f"Attempt {attempt_id} does not account for every record ({error.diag.constraint_name}): {counts}."
                " Nothing was published. Look at the attempt's report; if the next attempts say the same, release"
                " the batch with release_batch to find the segment."
            ) from None
        if batch_id is not None:
            cursor.execute("UPDATE ledger.attempts SET state = 'committed' WHERE attempt_id = %s", [attempt_id])
            return batch_id
        state = cursor.execute("SELECT state FROM ledger.attempts WHERE attempt_id = %s", [attempt_id]).fetchone()
    if state == "committed":
        return None
    raise StaleAttempt(
        f"Attempt {attempt_id} is {state or 'unknown'}: a newer attempt exists, or its batch was published or"
        " released. Nothing was changed and nothing is to be done."
    )


def lock_analytics(conn: Connection[Any]) -> None:
    """Wait until no other writer of `analytics` is at work; held to the end of the transaction."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('analytics'))")


def check_base(conn: Connection[Any], touched: Sequence[str], files: Mapping[str, set[str]], retired: set[str]) -> None:
    """The event files and retired hours that the attempt read still are what they were.

    Args:
        conn: Connection in the publishing transaction, after `lock_analytics`.
        touched: The hours the attempt touched.
        files: The live files by hour that its spec named.
        retired: The retired hours that its spec named.

    Raises:
        StaleBase: If another writer has changed one of the hours.
    """
    starts = [hours.parse(hour) for hour in touched]
    live: dict[str, set[str]] = {}
    for hour, path in conn.execute("SELECT hour, path FROM ledger.event_files WHERE live AND hour = ANY(%s)", [starts]):
        live.setdefault(hours.spell(hour), set()).add(path)
    rows = conn.execute("SELECT hour FROM ledger.retired_hours WHERE hour = ANY(%s)", [starts])
    retired_now = {hours.spell(hour) for (hour,) in rows}
    changed = [
        hour
        for hour in touched
        if live.get(hour, set()) != files.get(hour, set()) or (hour in retired_now) != (hour in retired)
    ]
    if changed:
        raise StaleBase(
            f"The events of {', '.join(changed)} were rewritten or retired while the attempt ran. Nothing was"
            " published; the next attempt reads anew."
        )


def add_event_files(conn: Connection[Any], batch_id: int, files: Iterable[tuple[str, str, int, int]]) -> None:
    """Register live event files, each as (path, hour, records, bytes)."""
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.event_files (path, hour, records, bytes, batch_id) VALUES (%s, %s, %s, %s, %s)",
            [(path, hours.parse(hour), records, size, batch_id) for path, hour, records, size in files],
        )


def add_rejections(
    conn: Connection[Any],
    batch_id: int,
    counts: Mapping[str, int],
    samples: Iterable[tuple[Any, ...]],
) -> None:
    """Register the number of rejected records by reason, and samples of them.

    A sample is (topic_id, partition, offset, record_at, reason, detail, excerpt).
    """
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.rejected_counts VALUES (%s, %s, %s)",
            [(batch_id, reason, count) for reason, count in counts.items() if count],
        )
        with cursor.copy(
            'COPY ledger.rejections (topic_id, partition, "offset", record_at, reason, detail, excerpt, batch_id)'
            " FROM STDIN"
        ) as copy:
            for sample in samples:
                copy.write_row((*sample, batch_id))


def replace_windows(conn: Connection[Any], batch_id: int, rows: Iterable[tuple[Any, ...]]) -> None:
    """Publish windows: rows of `TRAFFIC.columns`, each replacing what the window had.

    The revision grows where a number changes; the status is left to `complete_windows`.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, TRAFFIC.columns))
    numbers = TRAFFIC.columns[len(KEY) :]
    values = {
        "table": sql.Identifier("analytics", TRAFFIC.name),
        "columns": columns,
        "assignments": sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in numbers
        ),
        "old": sql.SQL(", ").join(sql.SQL("w.{}").format(sql.Identifier(name)) for name in numbers),
        "new": sql.SQL(", ").join(sql.SQL("excluded.{}").format(sql.Identifier(name)) for name in numbers),
        "batch_id": sql.Literal(batch_id),
    }
    with conn.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE TEMP TABLE staged ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA").format(
                **values
            )
        )
        with cursor.copy(sql.SQL("COPY staged ({columns}) FROM STDIN").format(**values)) as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            sql.SQL(
                "INSERT INTO {table} AS w ({columns}, batch_id) SELECT {columns}, {batch_id} FROM staged"
                " ON CONFLICT (window_start, window_minutes) DO UPDATE SET {assignments}, batch_id = {batch_id},"
                " published_at = now(), revision = w.revision + (ROW({old}) IS DISTINCT FROM ROW({new}))::int"
            ).format(**values)
        )
        cursor.execute(
            sql.SQL(
                "INSERT INTO ledger.batch_windows (batch_id, window_start, window_minutes)"
                " SELECT {batch_id}, window_start, window_minutes FROM staged"
            ).format(**values)
        )


def check_hours(conn: Connection[Any], touched: Sequence[str]) -> None:
    """The windows of each hour add up to its live event files, at both widths.

    Raises:
        ConservationBroken: With the first hour where they don't.
    """
    broken = conn.execute(
        "SELECT h.start, coalesce(f.records, 0), coalesce(t.five, 0), coalesce(t.sixty, 0)"
        " FROM unnest(%s::timestamptz[]) h (start)"
        " CROSS JOIN LATERAL (SELECT sum(records) AS records FROM ledger.event_files WHERE live AND hour = h.start) f"
        " CROSS JOIN LATERAL (SELECT sum(events) FILTER (WHERE window_minutes = 5) AS five,"
        "   sum(events) FILTER (WHERE window_minutes = 60) AS sixty FROM analytics.traffic_by_window"
        "   WHERE window_start >= h.start AND window_start < h.start + interval '1 hour') t"
        " WHERE NOT (coalesce(f.records, 0) = coalesce(t.five, 0) AND coalesce(t.five, 0) = coalesce(t.sixty, 0))",
        [[hours.parse(hour) for hour in touched]],
    ).fetchone()
    if broken is not None:
        hour, records, five, sixty = broken
        raise ConservationBroken(
            f"Hour {hours.spell(hour)} would have {records} events in its files, but {five} in its 5-minute windows and"
            f" {sixty} in its 60-minute window. Nothing was published; look at the attempt's report, then run again."
        )


def complete_windows(conn: Connection[Any]) -> int:
    """Mark windows complete once every partition's watermark has passed their end by two minutes.

    Returns:
        How many became complete.
    """
    with conn.transaction():
        lock_analytics(conn)
        return conn.execute(
            "UPDATE analytics.traffic_by_window SET status = 'complete' WHERE status = 'provisional'"
            " AND window_start + (window_minutes + 2) * interval '1 minute' <="
            " (SELECT min(watermark) FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL))"
        ).rowcount
