"""Ledger SQL of sessions and users: hours are replaced, sessions are folded from their hours.

UTC hours don't overlap, so the least event of a session is that of its first hour, and no order of events has to be
known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    from psycopg import Connection

    from clickstream.ledger.staging import Staged

HOUR_KEY = ("session_id", "hour")

UPSERT_HOURS = """
INSERT INTO {target} ({columns}) SELECT {columns} FROM {source}
ON CONFLICT (session_id, hour) DO UPDATE SET {assignments}
"""

REMEMBER_SESSIONS = """
CREATE TEMP TABLE previous_sessions ON COMMIT DROP AS
SELECT s.* FROM analytics.sessions s WHERE s.session_id IN (SELECT session_id FROM {source})
"""

FOLD_SESSIONS = """
INSERT INTO analytics.sessions (
    session_id, started_at, ended_at, events, page_views, add_to_carts, purchases, user_id, device, region,
    entry_page, exit_page, bounced)
SELECT session_id, min(started_at), max(ended_at), sum(events), sum(page_views), sum(add_to_carts), sum(purchases),
       (array_agg(user_id ORDER BY hour))[1], (array_agg(device ORDER BY hour))[1],
       (array_agg(region ORDER BY hour))[1],
       (array_agg(entry_page ORDER BY hour) FILTER (WHERE page_views > 0))[1],
       (array_agg(exit_page ORDER BY hour DESC) FILTER (WHERE page_views > 0))[1],
       sum(page_views) = 1
FROM analytics.session_hours WHERE session_id IN (SELECT session_id FROM {source})
GROUP BY session_id
ON CONFLICT (session_id) DO UPDATE SET
    started_at = excluded.started_at, ended_at = excluded.ended_at, events = excluded.events,
    page_views = excluded.page_views, add_to_carts = excluded.add_to_carts, purchases = excluded.purchases,
    user_id = excluded.user_id, device = excluded.device, region = excluded.region,
    entry_page = excluded.entry_page, exit_page = excluded.exit_page, bounced = excluded.bounced
"""

CHANGED_SESSIONS = """
CREATE TEMP TABLE changed_sessions ON COMMIT DROP AS
SELECT 1 AS sign, s.* FROM analytics.sessions s WHERE s.session_id IN (SELECT session_id FROM {source})
UNION ALL SELECT -1, * FROM previous_sessions
"""

STARTS = "SELECT min(started_at), max(started_at) FROM changed_sessions"

# Windows that retention has removed stay removed, even if a session goes on that started in one. The bounds, of which
# an hour is the widest window, follow from the rest: they spare reading all the windows there ever were.
COUNT_BY_WINDOW = """
MERGE INTO analytics.sessions_by_window w USING (
    SELECT t.window_start, t.window_minutes AS minutes, d.dimension, d.value, sum(s.sign) AS sessions,
           sum(s.sign * s.bounced::int) AS bounced,
           sum(s.sign * (s.add_to_carts > 0)::int) AS carted, sum(s.sign * (s.purchases > 0)::int) AS purchased,
           sum(s.sign * s.page_views) AS page_views,
           sum(s.sign * extract(epoch FROM s.ended_at - s.started_at)) AS seconds
    FROM changed_sessions s
    CROSS JOIN unnest(%(window_minutes)s::smallint[]) width (minutes)
    JOIN analytics.traffic_by_window t
      ON t.window_minutes = width.minutes
     AND t.window_start = date_bin(width.minutes * interval '1 minute', s.started_at, 'epoch')
     AND t.window_start BETWEEN %(first)s - interval '1 hour' AND %(last)s
    CROSS JOIN LATERAL (VALUES
        ('all', ''), ('device', s.device), ('region', s.region),
        ('entry_page', s.entry_page), ('exit_page', s.exit_page)
    ) d (dimension, value)
    WHERE d.value IS NOT NULL
    GROUP BY 1, 2, 3, 4
) d ON w.window_minutes = d.minutes AND w.dimension = d.dimension AND w.window_start = d.window_start
   AND left(w.value, 256) = left(d.value, 256) AND w.value = d.value
   AND w.window_start BETWEEN %(first)s - interval '1 hour' AND %(last)s
WHEN MATCHED AND w.sessions + d.sessions = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET
    sessions = w.sessions + d.sessions, bounced = w.bounced + d.bounced, carted = w.carted + d.carted,
    purchased = w.purchased + d.purchased, page_views = w.page_views + d.page_views, seconds = w.seconds + d.seconds
WHEN NOT MATCHED AND d.sessions <> 0 THEN INSERT
    (window_start, window_minutes, dimension, value, sessions, bounced, carted, purchased, page_views, seconds)
    VALUES (d.window_start, d.minutes, d.dimension, d.value, d.sessions, d.bounced, d.carted, d.purchased, d.page_views,
            d.seconds)
"""

ADD_USERS = "INSERT INTO {target} ({columns}) SELECT {columns} FROM {source} ON CONFLICT DO NOTHING"


def replace_session_hours(conn: Connection[Any], hours: Staged, window_minutes: list[int]) -> None:
    """Publish what sessions did in an hour, then fold these sessions, and count them by the window they start in.

    Args:
        conn: Connection in the publishing transaction, after `lock_analytics` and `windows.replace_windows`.
        hours: Staged rows of `session_hours`, each replacing what the session had in the hour.
        window_minutes: The widths of the windows.
    """
    source = {"source": hours.source}
    conn.execute(
        sql.SQL(UPSERT_HOURS).format(
            target=hours.target,
            columns=hours.listed(),
            assignments=hours.assignments(name for name in hours.columns if name not in HOUR_KEY),
            **source,
        )
    )
    conn.execute(sql.SQL(REMEMBER_SESSIONS).format(**source))
    conn.execute(sql.SQL(FOLD_SESSIONS).format(**source))
    conn.execute(sql.SQL(CHANGED_SESSIONS).format(**source))
    conn.execute("ANALYZE changed_sessions")
    ((first, last),) = conn.execute(STARTS).fetchall()
    conn.execute(COUNT_BY_WINDOW, {"window_minutes": window_minutes, "first": first, "last": last})


def add_users(conn: Connection[Any], users: Staged) -> None:
    """Publish who was there: staged rows of `users_by_hour`, known ones among them."""
    conn.execute(
        sql.SQL(ADD_USERS).format(target=users.target, columns=users.listed(), source=users.source),
    )
