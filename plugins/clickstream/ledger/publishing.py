"""Ledger SQL of publishing: one transaction that makes an attempt's results the truth, or changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.errors import CheckViolation
from psycopg.rows import scalar_row

from clickstream.errors import ConservationBroken, StaleAttempt, StaleBase
from clickstream.ledger import erasures, hours

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


RECORD_COUNTS = """
UPDATE ledger.batches b
SET state = 'published', published_at = now(), landed = %(landed)s, accepted = %(accepted)s,
    duplicate = %(duplicate)s, late = %(late)s, rejected = %(rejected)s, id_conflicts = %(id_conflicts)s
FROM ledger.attempts a
WHERE a.attempt_id = %(attempt_id)s AND b.batch_id = a.batch_id AND b.state = 'open' AND b.attempt = a.attempt
RETURNING b.batch_id
"""


def record_counts(conn: Connection[Any], attempt_id: UUID, counts: Counts) -> int | None:
    """The guarded first statement: the batch is open, this attempt is its newest, and it knows who was erased.

    Returns:
        The batch's id; None where this very attempt has published before (the connection died after COMMIT).

    Raises:
        StaleAttempt: If the batch isn't open or a newer attempt exists.
        StaleBase: If a user was erased since the attempt began.
        ConservationBroken: If the counts don't add up to the records in the batch's segments.
    """
    values = {"attempt_id": attempt_id, **vars(counts)}
    erasures.hold(conn)
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
            if erasures.has_grown_since(conn, attempt_id):
                raise StaleBase(
                    f"A user was erased since attempt {attempt_id} began. Nothing was published; the next attempt reads"
                    " anew."
                )
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


def check_hours(conn: Connection[Any], touched: Sequence[str]) -> None:
    """All tables agree on each hour, found by different ways: see the view `ledger.hour_checks`.

    Raises:
        ConservationBroken: With the first check that doesn't hold.
    """
    broken = conn.execute(
        "SELECT hour, check_name, expected, found FROM ledger.hour_checks"
        " WHERE hour = ANY(%s::timestamptz[]) AND expected <> found ORDER BY hour LIMIT 1",
        [[hours.parse(hour) for hour in touched]],
    ).fetchone()
    if broken is not None:
        hour, name, expected, found = broken
        raise ConservationBroken(
            f"Hour {hours.spell(hour)} would not add up: {name} would be {found}, not {expected}."
            " Nothing was published; look at the attempt's report, then run again."
        )
