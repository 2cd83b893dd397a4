"""Ledger SQL of removals: what nothing names any more is written down first and removed after a grace.

So a process that dies in between leaves nothing behind that the next one doesn't know of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection

CHUNK = 1_000


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A file, or a folder if the path ends with a slash; bytes where they are known."""

    path: str
    zone: str
    bytes: int | None = None


DECIDE = """
INSERT INTO ledger.removals (path, zone, bytes, reason) VALUES (%(path)s, %(zone)s, %(bytes)s, %(reason)s)
ON CONFLICT DO NOTHING
"""

# The newest attempt at the open batch may still read what the ledger named when it began; it is looked for once, not
# for each removal. What a segment or a live event file names is never due, whatever was decided.
DUE = """
SELECT r.path, r.zone, r.bytes FROM ledger.removals r
WHERE r.decided_at <= now() - %(grace)s AND r.path > %(after)s
  AND (r.reason = 'dead' OR r.decided_at < coalesce((
    SELECT min(a.created_at) FROM ledger.attempts a WHERE a.state = 'open' AND a.batch_id IS NOT NULL), 'infinity'))
  AND NOT EXISTS (SELECT FROM ledger.segments s WHERE s.path = r.path)
  AND NOT EXISTS (SELECT FROM ledger.event_files f WHERE f.path = r.path AND f.live)
ORDER BY r.path LIMIT %(chunk)s
"""


def decide(conn: Connection[Any], removals: Iterable[Removal], *, reason: str) -> None:
    """Write down that these may go, in the transaction that ends their being named.

    Args:
        conn: Connection of the writer, in that transaction.
        removals: Files and folders; those that are decided already stay as they are.
        reason: `retention`, `replaced`, `dead` or `erasure`.
    """
    with conn.cursor() as cursor:
        cursor.executemany(DECIDE, [{**vars(removal), "reason": reason} for removal in removals])


def is_decided(conn: Connection[Any], path: str) -> bool:
    """Whether a file or folder waits for its removal."""
    return conn.execute("SELECT FROM ledger.removals WHERE path = %s", [path]).rowcount == 1


def due(conn: Connection[Any], *, grace_hours: int, after: str = "") -> list[Removal]:
    """What may be removed now, at most 1,000 after a path, in the order of the paths.

    Args:
        conn: Connection of the writer.
        grace_hours: How long a removal waits.
        after: The greatest path that was dealt with.
    """
    with conn.cursor(row_factory=class_row(Removal)) as cursor:
        return cursor.execute(DUE, {"grace": timedelta(hours=grace_hours), "after": after, "chunk": CHUNK}).fetchall()


def forget(conn: Connection[Any], paths: Sequence[str]) -> None:
    """Take removals off the list once their files are gone, and the rows of event files with them."""
    with conn.transaction():
        conn.execute("DELETE FROM ledger.event_files WHERE path = ANY(%s) AND NOT live", [list(paths)])
        conn.execute("DELETE FROM ledger.removals WHERE path = ANY(%s)", [list(paths)])


def waiting(conn: Connection[Any]) -> list[tuple[str, int, int]]:
    """By zone: how many removals wait, and their bytes as far as they are known."""
    return conn.execute(
        "SELECT zone, count(*), coalesce(sum(bytes), 0)::bigint FROM ledger.removals GROUP BY zone ORDER BY zone"
    ).fetchall()
