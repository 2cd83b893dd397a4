"""Ledger SQL of partitions of the results: adding them ahead, and dropping those that retention no longer keeps.

Windows of an hour that still has events are part of the equations, so nothing here takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import class_row, scalar_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from psycopg import Connection

WINDOWS = (
    "traffic_by_window", "pages_by_window", "audience_by_window", "funnel_by_window", "revenue_by_window",
    "sessions_by_window",
)  # fmt: skip
SESSION_HOURS, USERS_BY_HOUR = "session_hours", "users_by_hour"


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition that is named after what it holds.

    Attributes:
        table_name: The table it is of.
        partition: Its own name, in `analytics`.
        since: Start of its range, inclusive.
        until: End of its range, exclusive.
        bytes: Size on disk with indexes.
    """

    table_name: str
    partition: str
    since: datetime
    until: datetime
    bytes: int

    @property
    def identifier(self) -> sql.Identifier:
        """The partition as a table."""
        return sql.Identifier("analytics", self.partition)


ENDED = """
SELECT table_name, partition, since, until, bytes FROM ledger.result_partitions
WHERE table_name = ANY(%(tables)s) AND window_minutes IS NOT DISTINCT FROM %(minutes)s
  AND until <= now() - %(period)s::interval
ORDER BY until, array_position(%(tables)s, table_name)
"""

WINDOWS_MAY_GO = """
SELECT NOT EXISTS (SELECT FROM {traffic} WHERE published_at > now() - %(period)s::interval)
   AND NOT EXISTS (
       SELECT FROM (SELECT DISTINCT date_trunc('hour', window_start, 'UTC') AS hour FROM {traffic}) h
       WHERE NOT EXISTS (SELECT FROM ledger.retired_hours r WHERE r.hour = h.hour))
"""

HOURS_MAY_GO = """
SELECT NOT EXISTS (
    SELECT FROM (SELECT DISTINCT hour FROM {partition}) h
    WHERE NOT EXISTS (SELECT FROM ledger.retired_hours r WHERE r.hour = h.hour))
"""

REST_OF_WINDOWS = """
SELECT t.window_start FROM {traffic} t
WHERE t.window_minutes = %(minutes)s AND t.published_at <= now() - %(period)s::interval
  AND t.window_start + t.window_minutes * interval '1 minute' <= now() - %(period)s::interval
  AND EXISTS (SELECT FROM ledger.retired_hours r WHERE r.hour = date_trunc('hour', t.window_start, 'UTC'))
ORDER BY t.window_start LIMIT %(limit)s
"""

# A session lies within the month, or it reaches over its start or its end. Only the latter may have to stay.
STAYING_HOURS = """
SELECT h.* FROM {partition} h JOIN analytics.sessions s USING (session_id)
WHERE (s.started_at < %(since)s OR s.ended_at >= %(until)s) AND (
    date_trunc('hour', s.ended_at, 'UTC') + interval '1 hour' > now() - %(period)s::interval
    OR EXISTS (
        SELECT FROM analytics.session_hours o WHERE o.session_id = h.session_id
        AND NOT EXISTS (SELECT FROM ledger.retired_hours r WHERE r.hour = o.hour)))
"""

COUNT_SESSIONS = """
WITH staying AS MATERIALIZED ({staying})
SELECT (SELECT count(DISTINCT session_id) FROM {partition}) - count(DISTINCT session_id), count(*) FROM staying
"""

REMOVE_SESSIONS = """
WITH gone AS (
    DELETE FROM analytics.sessions s
    WHERE s.session_id IN (SELECT session_id FROM {partition})
      AND NOT EXISTS (SELECT FROM staying_hours h WHERE h.session_id = s.session_id)
    RETURNING s.session_id, s.started_at, s.ended_at
), elsewhere AS (
    DELETE FROM analytics.session_hours o USING gone g
    WHERE o.session_id = g.session_id AND (g.started_at < %(since)s OR g.ended_at >= %(until)s)
      AND (o.hour < %(since)s OR o.hour >= %(until)s)
)
SELECT count(*) FROM gone
"""

# Sessions of the default partition with an hour in another one go with that one.
REST_OF_SESSIONS = """
SELECT s.session_id FROM analytics.sessions s
WHERE s.session_id IN (SELECT session_id FROM analytics.session_hours_default)
  AND date_trunc('hour', s.ended_at, 'UTC') + interval '1 hour' <= now() - %(period)s::interval
  AND NOT EXISTS (
      SELECT FROM analytics.session_hours o WHERE o.session_id = s.session_id
      AND (o.tableoid <> 'analytics.session_hours_default'::regclass
           OR NOT EXISTS (SELECT FROM ledger.retired_hours r WHERE r.hour = o.hour)))
LIMIT %(limit)s
"""

REST_OF_USERS = """
SELECT u.hour, u.user_id FROM analytics.users_by_hour_default u
WHERE u.hour + interval '1 hour' <= now() - %(period)s::interval
  AND EXISTS (SELECT FROM ledger.retired_hours r WHERE r.hour = u.hour)
LIMIT %(limit)s
"""


def add(conn: Connection[Any], until: datetime) -> list[str]:
    """Make the partitions that are missing up to a time; returns their names."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute("SELECT analytics.add_partitions(%s)", [until]).fetchall()


def analyze(conn: Connection[Any]) -> None:
    """Take the statistics of the partitioned tables, which autovacuum never does."""
    conn.execute("SELECT analytics.analyze_partitions()")


def ended(
    conn: Connection[Any], tables: Sequence[str], period: timedelta, *, window_minutes: int | None = None
) -> list[list[Partition]]:
    """Partitions whose range ended longer ago than the period, those of one range together, oldest first."""
    values = {"tables": list(tables), "minutes": window_minutes, "period": period}
    groups: dict[datetime, list[Partition]] = {}
    with conn.cursor(row_factory=class_row(Partition)) as cursor:
        for one in cursor.execute(ENDED, values):
            groups.setdefault(one.until, []).append(one)
    return list(groups.values())


def windows_may_go(conn: Connection[Any], traffic: Partition, period: timedelta) -> bool:
    """Whether all windows were published last longer ago than the period, and their hours are retired."""
    return _one(conn, sql.SQL(WINDOWS_MAY_GO).format(traffic=traffic.identifier), period=period) is True


def hours_may_go(conn: Connection[Any], partition: Partition) -> bool:
    """Whether all hours with a row in a partition of hours are retired."""
    return _one(conn, sql.SQL(HOURS_MAY_GO).format(partition=partition.identifier)) is True


def exists(conn: Connection[Any], partition: Partition) -> bool:
    """Whether nobody has dropped it since it was found."""
    query = sql.SQL("SELECT to_regclass({})").format(sql.Literal(f"analytics.{partition.partition}"))
    return _one(conn, query) is not None


def rows_of(conn: Connection[Any], partition: Partition) -> int:
    """The number of its rows."""
    return int(_one(conn, sql.SQL("SELECT count(*) FROM {}").format(partition.identifier)))


def drop(conn: Connection[Any], partition: Partition) -> None:
    """Drop a partition.

    Raises:
        psycopg.errors.LockNotAvailable: If readers kept it for 5 seconds.
    """
    conn.execute("SELECT analytics.drop_partition(%s, %s)", [partition.partition, partition.until])


def count_rest_of_windows(conn: Connection[Any], period: timedelta, *, window_minutes: int) -> int:
    """How many windows of the default partition may go."""
    query = sql.SQL("SELECT count(*) FROM ({}) rest").format(_rest_of_windows(window_minutes))
    return int(_one(conn, query, period=period, minutes=window_minutes, limit=None))


def remove_rest_of_windows(conn: Connection[Any], period: timedelta, *, window_minutes: int, limit: int) -> int:
    """Delete windows of the default partition that may go from all tables.

    Args:
        conn: Connection in a transaction, after `lock_analytics`.
        period: How long they are kept after their last publication.
        window_minutes: Their width: 5 or 60.
        limit: Most windows to delete.

    Returns:
        How many windows were deleted.
    """
    values = {"period": period, "minutes": window_minutes, "limit": limit}
    with conn.cursor(row_factory=scalar_row) as cursor:
        starts = cursor.execute(_rest_of_windows(window_minutes), values).fetchall()
    for table in WINDOWS if starts else ():
        conn.execute(
            sql.SQL("DELETE FROM {} WHERE window_minutes = {} AND window_start = ANY(%s)").format(
                sql.Identifier("analytics", table), sql.Literal(window_minutes)
            ),
            [starts],
        )
    return len(starts)


def count_sessions_of(conn: Connection[Any], hours: Partition, period: timedelta) -> tuple[int, int]:
    """What `remove_sessions_of` would return."""
    staying = sql.SQL(STAYING_HOURS).format(partition=hours.identifier)
    query = sql.SQL(COUNT_SESSIONS).format(partition=hours.identifier, staying=staying)
    row = conn.execute(query, {"period": period, "since": hours.since, "until": hours.until}).fetchone()
    return row or (0, 0)


def remove_sessions_of(conn: Connection[Any], hours: Partition, period: timedelta) -> tuple[int, int]:
    """Delete the sessions that go with a partition of `session_hours`, and drop it.

    What others did in its hours moves to the default partition, for a session keeps all of its hours or none.

    Args:
        conn: Connection in a transaction, after `lock_analytics`.
        hours: The partition; all of its hours are retired.
        period: How long a session is kept after its last hour.

    Returns:
        How many sessions went, and how many rows of others were moved.
    """
    values = {"period": period, "since": hours.since, "until": hours.until}
    staying = sql.SQL(STAYING_HOURS).format(partition=hours.identifier)
    moved = conn.execute(
        sql.SQL("CREATE TEMP TABLE staying_hours ON COMMIT DROP AS {}").format(staying), values
    ).rowcount
    conn.execute("ANALYZE staying_hours")
    gone = int(_one(conn, sql.SQL(REMOVE_SESSIONS).format(partition=hours.identifier), **values))
    drop(conn, hours)
    conn.execute("INSERT INTO analytics.session_hours SELECT * FROM staying_hours")
    return gone, moved


def count_rest_of_sessions(conn: Connection[Any], period: timedelta) -> tuple[int, int]:
    """How many sessions, and rows of users, of the default partitions may go."""
    sessions, users = (
        int(_one(conn, sql.SQL("SELECT count(*) FROM ({}) rest").format(sql.SQL(rest)), period=period, limit=None))
        for rest in (REST_OF_SESSIONS, REST_OF_USERS)
    )
    return sessions, users


def remove_rest_of_sessions(conn: Connection[Any], period: timedelta, *, limit: int) -> int:
    """Delete sessions that may go and have all of their hours in the default partition; returns how many.

    Args:
        conn: Connection in a transaction, after `lock_analytics`.
        period: How long a session is kept after its last hour.
        limit: Most sessions to delete.
    """
    with conn.cursor(row_factory=scalar_row) as cursor:
        going = cursor.execute(REST_OF_SESSIONS, {"period": period, "limit": limit}).fetchall()
    for table in ("session_hours_default", "sessions") if going else ():
        conn.execute(
            sql.SQL("DELETE FROM {} WHERE session_id = ANY(%s)").format(sql.Identifier("analytics", table)), [going]
        )
    return len(going)


def remove_rest_of_users(conn: Connection[Any], period: timedelta, *, limit: int) -> int:
    """Delete rows of `users_by_hour` that may go from the default partition; returns how many."""
    return conn.execute(
        sql.SQL(
            "DELETE FROM analytics.users_by_hour_default u USING ({}) going"
            " WHERE u.hour = going.hour AND u.user_id = going.user_id"
        ).format(sql.SQL(REST_OF_USERS)),
        {"period": period, "limit": limit},
    ).rowcount


def _rest_of_windows(window_minutes: int) -> sql.Composed:
    return sql.SQL(REST_OF_WINDOWS).format(
        traffic=sql.Identifier("analytics", f"traffic_by_window_{window_minutes}_default")
    )


def _one(conn: Connection[Any], query: sql.Composed, **values: object) -> Any:  # noqa: ANN401 - a column of any type
    ((found,),) = conn.execute(query, values).fetchall()
    return found
