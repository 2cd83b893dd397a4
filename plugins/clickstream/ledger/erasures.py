"""Ledger SQL of erasures: the list, who may commit beside it, and the one transaction in which a user goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from clickstream.erasure.mapping import Listed
from clickstream.errors import RemedyRefused, StaleAttempt
from clickstream.ledger import removals
from clickstream.ledger.removals import Removal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from psycopg import Connection


@dataclass(frozen=True)
class File:
    """A file that the ledger names: a raw segment's or a live one of events. Sizes in bytes."""

    zone: str
    path: str
    records: int
    bytes: int


@dataclass(frozen=True)
class Rewritten:
    """A file and the one that takes its place; `bytes` is the size of the new one, its records are as many."""

    file: File
    path: str
    bytes: int


EXCERPTS_AT_ONCE = 5_000
COUNT_USERS = "SELECT count(*) FROM ledger.erasures WHERE kind = 'user'"


def read(conn: Connection[Any]) -> tuple[dict[bytes, Listed], int]:
    """The erasure list by the keyed hash of each id, and how many users are on it, both of one moment."""
    rows = conn.execute(
        "SELECT id_hash, token, dense_rank() OVER (ORDER BY erased_at), kind FROM ledger.erasures"
    ).fetchall()
    listed = {id_hash: Listed(token, order) for id_hash, token, order, _ in rows}
    return listed, sum(kind == "user" for *_, kind in rows)


def hold(conn: Connection[Any]) -> None:
    """Keep erasures from being committed until this transaction ends; several may hold at once.

    To be called before any row or `lock_analytics` is waited for, which an erasure takes after its own lock.
    """
    conn.execute("SELECT pg_advisory_xact_lock_shared(hashtext('erasures'))")


def has_grown_since(conn: Connection[Any], attempt_id: UUID) -> bool:
    """Whether a user was erased since an attempt began. To be asked while erasures are held."""
    row = conn.execute(
        f"SELECT erasures_seen <> ({COUNT_USERS}) FROM ledger.attempts WHERE attempt_id = %s",  # noqa: S608 - constant
        [attempt_id],
    ).fetchone()
    return row is not None and bool(row[0])


def enter(conn: Connection[Any]) -> None:
    """Be the only erasure until the session ends or `leave`.

    Raises:
        RemedyRefused: If another one runs.
    """
    row = conn.execute("SELECT pg_try_advisory_lock(hashtext('erase_user'))").fetchone()
    if row != (True,):
        raise RemedyRefused("Another erasure is running, and they go one by one. Run this one again after it.")


def leave(conn: Connection[Any]) -> None:
    """Let another erasure begin."""
    conn.execute("SELECT pg_advisory_unlock(hashtext('erase_user'))")


def request(conn: Connection[Any], token: str, dag_run_id: str) -> int:
    """Register that a user is to be erased; returns the id of the request."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return int(
            cursor.execute(
                "INSERT INTO ledger.erasure_requests (token, dag_run_id) VALUES (%s, %s) RETURNING request_id",
                [token, dag_run_id],
            ).fetchone()
            or 0
        )


def register_rewrite(conn: Connection[Any], request_id: int, dag_run_id: str) -> UUID:
    """A new attempt at writing files anew, whose id names its folders; older ones of erasures are dead from now on.

    To be called while no other erasure runs (`enter`).
    """
    with conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        cursor.execute("UPDATE ledger.rewrites SET state = 'dead' WHERE kind = 'erasure' AND state = 'open'")
        attempt_id: UUID | None = cursor.execute(
            "INSERT INTO ledger.rewrites (kind, subject, dag_run_id) VALUES ('erasure', %s, %s) RETURNING attempt_id",
            [str(request_id), dag_run_id],
        ).fetchone()
    if attempt_id is None:
        raise AssertionError
    return attempt_id


def files(conn: Connection[Any]) -> list[File]:
    """The raw files and the live event files of the ledger, as they are now."""
    with conn.cursor(row_factory=class_row(File)) as cursor:
        return cursor.execute(
            "SELECT 'raw' AS zone, path, records, bytes FROM ledger.segments WHERE path IS NOT NULL"
            " UNION ALL SELECT 'events', path, records, bytes FROM ledger.event_files WHERE live ORDER BY 1, 2"
        ).fetchall()


def sessions_of(conn: Connection[Any], user_id: str) -> set[str]:
    """The sessions that the results call this user's."""
    rows = conn.execute(
        "SELECT session_id FROM analytics.sessions WHERE user_id = %(user)s"
        " UNION SELECT session_id FROM analytics.session_hours WHERE user_id = %(user)s",
        {"user": user_id},
    )
    return {session_id for (session_id,) in rows}


def lock(conn: Connection[Any]) -> None:
    """Wait until no attempt commits, and let none until this transaction ends."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('erasures'))")


def lock_segments(conn: Connection[Any]) -> None:
    """Let nobody change a segment until this transaction ends: neither a claim nor the retiring of raw files."""
    conn.execute("LOCK TABLE ledger.segments IN SHARE ROW EXCLUSIVE MODE")


def settle_rewrite(conn: Connection[Any], attempt_id: UUID) -> None:
    """Commit the attempt that wrote the files.

    Raises:
        StaleAttempt: If it was given up meanwhile, so that its files may be swept.
    """
    settled = conn.execute(
        "UPDATE ledger.rewrites SET state = 'committed' WHERE attempt_id = %s AND state = 'open'", [attempt_id]
    ).rowcount
    if settled != 1:
        raise StaleAttempt(
            f"The rewrite {attempt_id} was given up while it ran, so its files may be gone. Nothing was erased; run"
            " erase_user again."
        )


def add(conn: Connection[Any], rows: Iterable[tuple[bytes, str, str]]) -> None:
    """Put ids on the list, each as (hash, kind, token); those that are on it keep their token."""
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.erasures (id_hash, kind, token) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            list(rows),
        )


NEW_FILES = "unnest(%(old)s::text[], %(path)s::text[], %(bytes)s::bigint[]) n (old, path, bytes)"
SWAP = {
    "raw": (
        f"UPDATE ledger.segments s SET path = n.path, bytes = n.bytes FROM {NEW_FILES} WHERE s.path = n.old",  # noqa: S608
    ),
    "events": (
        f"""
        INSERT INTO ledger.event_files (path, hour, records, bytes, batch_id)
        SELECT n.path, f.hour, f.records, n.bytes, f.batch_id
        FROM ledger.event_files f JOIN {NEW_FILES} ON f.path = n.old WHERE f.live
        """,  # noqa: S608 - constants of this module
        "UPDATE ledger.event_files SET live = false WHERE path = ANY(%(old)s) AND live",
    ),
}


def swap(conn: Connection[Any], files: Sequence[Rewritten]) -> None:
    """Let the ledger name the new files, and give the old ones to removal.

    Raises:
        StaleAttempt: If it doesn't name one of the old files any more.
    """
    for zone, statements in SWAP.items():
        of_zone = [one for one in files if one.file.zone == zone]
        values = {
            "old": [one.file.path for one in of_zone],
            "path": [one.path for one in of_zone],
            "bytes": [one.bytes for one in of_zone],
        }
        if any(conn.execute(statement, values).rowcount != len(of_zone) for statement in statements):
            raise StaleAttempt(
                f"The ledger no longer names all of the files in {zone}/ that were written anew. Nothing was erased;"
                " run erase_user again."
            )
    replaced = [Removal(path=one.file.path, zone=one.file.zone, bytes=one.file.bytes) for one in files]
    removals.decide(conn, replaced, reason="erasure")


STAGED = f"""
SELECT zone || '/' || attempt_id || '/', zone, CASE WHEN state = 'committed' THEN 'erasure' ELSE 'dead' END
FROM ledger.attempts, unnest(
    CASE WHEN state = 'committed' THEN '{{batches}}' ELSE '{{batches, events, rejected}}' END::text[]) zone
WHERE batch_id IS NOT NULL AND swept_at IS NULL AND erasures_seen < ({COUNT_USERS})
UNION ALL
SELECT DISTINCT 'raw/' || p.topic || '/partition=' || p.partition || '/' || left_over.attempt_id || '/', 'raw', 'dead'
FROM (
    SELECT a.attempt_id, r.topic_id, r.partition FROM ledger.attempts a JOIN ledger.drain_ranges r USING (drain_id)
    WHERE a.state <> 'committed' AND a.swept_at IS NULL AND a.erasures_seen < ({COUNT_USERS})
    UNION
    SELECT l.attempt_id, l.topic_id, l.partition FROM ledger.landings l JOIN ledger.attempts a USING (attempt_id)
    WHERE a.swept_at IS NULL AND a.erasures_seen < ({COUNT_USERS}) AND NOT EXISTS (
        SELECT FROM ledger.segments s
        WHERE s.attempt_id = l.attempt_id AND s.topic_id = l.topic_id AND s.partition = l.partition)
) left_over JOIN ledger.partitions p USING (topic_id, partition)
"""  # noqa: S608 - the inner query is a constant


def remove_staged(conn: Connection[Any], root: str) -> None:
    """Give to removal what attempts have written and nothing names: it may hold the user.

    That is the folder of tables of every attempt at a batch, and all of an attempt that didn't commit; one that still
    runs can't, as it doesn't know who was erased. Attempts that know stay as they are: they may yet commit.

    Args:
        conn: Connection in the erasing transaction, after `add`.
        root: The storage URL.
    """
    folders = conn.execute(STAGED).fetchall()
    for reason in ("erasure", "dead"):
        of_reason = [Removal(path=f"{root}/{folder}", zone=zone) for folder, zone, why in folders if why == reason]
        removals.decide(conn, of_reason, reason=reason)


# Each of the user's rows is of one of these sessions, by which it is found: not every table has an index on user_id.
RENAME_SESSIONS = """
UPDATE analytics.{} s
SET session_id = m.token, user_id = CASE WHEN s.user_id = %(user)s THEN %(token)s ELSE s.user_id END
FROM renamed_sessions m
WHERE s.session_id = m.session_id AND (m.session_id <> m.token OR s.user_id = %(user)s)
"""
RENAME_USER = "UPDATE analytics.users_by_hour SET user_id = %(token)s WHERE user_id = %(user)s"


def rename(conn: Connection[Any], user: tuple[str, str], sessions: Mapping[str, str]) -> dict[str, int]:
    """Replace ids in the results.

    Args:
        conn: Connection in the erasing transaction.
        user: The userId and its token.
        sessions: The tokens by sessionId, of all sessions that the user has rows of; a token stands for itself.

    Returns:
        How many rows had one of the ids, by table.
    """
    conn.execute("CREATE TEMP TABLE renamed_sessions (session_id text PRIMARY KEY, token text) ON COMMIT DROP")
    with conn.cursor() as cursor, cursor.copy("COPY renamed_sessions FROM STDIN") as copy:
        for pair in sessions.items():
            copy.write_row(pair)
    conn.execute("ANALYZE renamed_sessions")
    values = {"user": user[0], "token": user[1]}
    counts = {
        table: conn.execute(RENAME_SESSIONS.format(table), values).rowcount for table in ("sessions", "session_hours")
    }
    counts["users_by_hour"] = conn.execute(RENAME_USER, values).rowcount
    return counts


COUNT_ROWS = """
SELECT (SELECT count(*) FROM analytics.sessions WHERE user_id = %(user)s OR session_id = ANY(%(sessions)s)),
       (SELECT count(*) FROM analytics.session_hours WHERE user_id = %(user)s OR session_id = ANY(%(sessions)s)),
       (SELECT count(*) FROM analytics.users_by_hour WHERE user_id = %(user)s)
"""


def count(conn: Connection[Any], user_id: str, sessions: Mapping[str, str]) -> dict[str, int]:
    """How many rows of the results `rename` would change, by table."""
    changed = [one for one, token in sessions.items() if one != token]
    row = conn.execute(COUNT_ROWS, {"user": user_id, "sessions": changed}).fetchone() or ()
    return dict(zip(("sessions", "session_hours", "users_by_hour"), row, strict=True))


def newest_rejections(conn: Connection[Any]) -> int:
    """The newest batch with a rejected record, 0 where there is none; batches are published in order."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute("SELECT max(batch_id) FROM ledger.rejections").fetchone() or 0)


def excerpts(conn: Connection[Any], *, after: int) -> Iterator[tuple[tuple[str, int, int], str]]:
    """The excerpts of rejected records in which an id may stand, by coordinates, of batches after this one."""
    with conn.transaction(), conn.cursor("excerpts") as cursor:
        cursor.itersize = EXCERPTS_AT_ONCE
        cursor.execute(
            'SELECT topic_id, partition, "offset", excerpt FROM ledger.rejections'
            " WHERE batch_id > %s AND (excerpt LIKE '%%Id\"%%' OR excerpt LIKE '%%\\\\u%%')",
            [after],
        )
        for topic_id, partition, offset, excerpt in cursor:
            yield (topic_id, partition, offset), excerpt


def replace_excerpts(conn: Connection[Any], excerpts: Mapping[tuple[str, int, int], str]) -> int:
    """Write excerpts of rejected records anew, by coordinates; returns how many differed."""
    with conn.cursor() as cursor:
        cursor.executemany(
            'UPDATE ledger.rejections SET excerpt = %s WHERE topic_id = %s AND partition = %s AND "offset" = %s'
            " AND excerpt IS DISTINCT FROM %s",
            [(text, *at, text) for at, text in excerpts.items()],
        )
        return max(0, cursor.rowcount)


def take_statistics(conn: Connection[Any]) -> None:
    """Let the planner forget the values that it knew of tables with ids: they are in `pg_stats`, as they were."""
    conn.execute("SELECT ledger.analyze_ids()")


def mark_committed(conn: Connection[Any], token: str) -> None:
    """Write down on the requests of a user that nothing named by the ledger knows him any more."""
    conn.execute(
        "UPDATE ledger.erasure_requests SET committed_at = now() WHERE token = %s AND committed_at IS NULL", [token]
    )


UNFINISHED = """
SELECT request_id FROM ledger.erasure_requests WHERE finished_at IS NULL AND NOT EXISTS (
    SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
    WHERE d.datname = current_database() AND locktype = 'advisory' AND granted
      AND (classid::bigint << 32 | objid::bigint) = hashtext('erase_user')::bigint)
ORDER BY request_id
"""


def unfinished(conn: Connection[Any]) -> list[int]:
    """Requests that ended before they were done; none while an erasure is at work."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(UNFINISHED).fetchall()


def finish(conn: Connection[Any], request_id: int, token: str, counts: Mapping[str, int]) -> None:
    """Write down what a request has changed, and that all requests of its user are done."""
    with conn.transaction():
        conn.execute(
            "UPDATE ledger.erasure_requests SET counts = %s WHERE request_id = %s", [Jsonb(dict(counts)), request_id]
        )
        conn.execute(
            "UPDATE ledger.erasure_requests SET finished_at = now() WHERE token = %s AND finished_at IS NULL", [token]
        )


def mark_days(conn: Connection[Any], days: Sequence[Any]) -> None:
    """Write down that published days know everybody who was erased until now."""
    conn.execute(
        f"UPDATE ledger.published_days SET erasures_seen = ({COUNT_USERS}) WHERE day = ANY(%s)",  # noqa: S608 - constant
        [list(days)],
    )
