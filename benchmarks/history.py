"""Months of results at the generator's default rate: one of its days, drawn session by session, repeated day by day.

All tables are computed by SQL from the events of that day. A session that crosses midnight lends its last minutes to
the beginning of the day, as if the day before had been equal; its row in `sessions` is whole.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from psycopg import ClientCursor, sql

from clickstream_source.minute import MINUTES_A_DAY, day_factor
from clickstream_source.settings import GeneratorSettings
from clickstream_source.visitors import MINUTE_MS, Shape, actions_of_session, mean_actions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection

DAY_START = datetime(2000, 1, 1, tzinfo=UTC)
PRICE = 1990  # euro cents, of every purchase

# `at` of the tail of a session that crosses midnight lies in the day after DAY_START.
EVENTS = """
CREATE UNLOGGED TABLE public.day_events (
    at timestamptz, session_id text, kind text, page text, user_id text, device text, region text, referrer text,
    currency text, amount numeric
);
"""

TEMPLATES = """
CREATE UNLOGGED TABLE public.placed AS
SELECT e.*, w.minutes::smallint AS window_minutes,
       date_bin(make_interval(mins => w.minutes), at - (at >= '2000-01-02Z')::int * interval '1 day', '2000-01-01Z')
           AS window_start
FROM public.day_events e CROSS JOIN (VALUES (5), (60)) w (minutes);

CREATE UNLOGGED TABLE public.day_traffic_by_window AS
SELECT window_start, window_minutes, count(*) AS events,
       count(*) FILTER (WHERE kind = 'PAGE_VIEW') AS page_views,
       count(*) FILTER (WHERE kind = 'ADD_TO_CART') AS add_to_carts,
       count(*) FILTER (WHERE kind = 'PURCHASE') AS purchases,
       count(*) FILTER (WHERE kind = 'LOGIN') AS logins, count(*) FILTER (WHERE kind = 'LOGOUT') AS logouts,
       count(DISTINCT user_id) AS users, count(DISTINCT session_id) AS sessions, 'complete' AS status, 1 AS batch_id
FROM public.placed GROUP BY 1, 2;

CREATE UNLOGGED TABLE public.day_pages_by_window AS
SELECT window_start, window_minutes, page, count(*) AS views,
       count(DISTINCT user_id) AS users, count(DISTINCT session_id) AS sessions
FROM public.placed WHERE kind = 'PAGE_VIEW' GROUP BY 1, 2, 3;

CREATE UNLOGGED TABLE public.day_audience_by_window AS
SELECT window_start, window_minutes, d.dimension, d.value, count(*) AS events, count(DISTINCT user_id) AS users,
       count(DISTINCT session_id) AS sessions, count(*) FILTER (WHERE kind = 'PURCHASE') AS purchases
FROM public.placed
CROSS JOIN LATERAL (VALUES ('device', device), ('region', region), ('referrer', referrer)) d (dimension, value)
GROUP BY 1, 2, 3, 4;

CREATE UNLOGGED TABLE public.day_funnel_by_window AS
SELECT window_start, window_minutes, count(DISTINCT session_id) FILTER (WHERE kind = 'PAGE_VIEW') AS sessions_viewed,
       count(DISTINCT session_id) FILTER (WHERE kind = 'ADD_TO_CART') AS sessions_carted,
       count(DISTINCT session_id) FILTER (WHERE kind = 'PURCHASE') AS sessions_purchased
FROM public.placed GROUP BY 1, 2;

CREATE UNLOGGED TABLE public.day_revenue_by_window AS
SELECT window_start, window_minutes, currency, count(*) AS purchases, sum(amount) AS amount
FROM public.placed WHERE kind = 'PURCHASE' GROUP BY 1, 2, 3;

CREATE UNLOGGED TABLE public.day_users_by_hour AS
SELECT DISTINCT window_start AS hour, user_id FROM public.placed WHERE window_minutes = 60;

CREATE UNLOGGED TABLE public.day_sessions AS
SELECT session_id, min(at) AS started_at, max(at) AS ended_at, count(*) AS events,
       count(*) FILTER (WHERE kind = 'PAGE_VIEW') AS page_views,
       count(*) FILTER (WHERE kind = 'ADD_TO_CART') AS add_to_carts,
       count(*) FILTER (WHERE kind = 'PURCHASE') AS purchases, min(user_id) AS user_id, min(device) AS device,
       min(region) AS region,
       (array_agg(page ORDER BY at) FILTER (WHERE kind = 'PAGE_VIEW'))[1] AS entry_page,
       (array_agg(page ORDER BY at DESC) FILTER (WHERE kind = 'PAGE_VIEW'))[1] AS exit_page,
       count(*) FILTER (WHERE kind = 'PAGE_VIEW') = 1 AS bounced
FROM public.day_events GROUP BY 1;

CREATE UNLOGGED TABLE public.day_sessions_by_window AS
SELECT date_bin(make_interval(mins => w.minutes), started_at, '2000-01-01Z') AS window_start,
       w.minutes::smallint AS window_minutes, d.dimension, d.value, count(*) AS sessions,
       count(*) FILTER (WHERE bounced) AS bounced, count(*) FILTER (WHERE add_to_carts > 0) AS carted,
       count(*) FILTER (WHERE purchases > 0) AS purchased, sum(page_views)::bigint AS page_views,
       sum(extract(epoch FROM ended_at - started_at)) AS seconds
FROM public.day_sessions CROSS JOIN (VALUES (5), (60)) w (minutes)
CROSS JOIN LATERAL (VALUES ('all', ''), ('device', device), ('region', region), ('entry_page', entry_page),
                           ('exit_page', exit_page)) d (dimension, value)
WHERE d.value IS NOT NULL GROUP BY 1, 2, 3, 4;
"""

TIMES = ("window_start", "hour", "started_at", "ended_at")
UNVACUUMED = timedelta(hours=3)  # about as many users as make autovacuum come
REWRITTEN = {
    "pages_by_window": "window_start",
    "audience_by_window": "window_start",
    "revenue_by_window": "window_start",
    "sessions_by_window": "window_start",
    "users_by_hour": "hour",
}
REWRITE = """
WITH gone AS (DELETE FROM analytics.{table} WHERE {time} >= %s RETURNING *)
INSERT INTO analytics.{table} SELECT * FROM gone
"""

# A batch a minute, with a segment of each of three partitions.
LEDGER = """
INSERT INTO ledger.partitions (topic, topic_id, partition, first_offset, next_offset, log_start_offset, log_end_offset,
    settled, observed_at, last_record_at)
SELECT 'clickstream-events', 'benchmark', p, 0, %(minutes)s * 200, 0, %(minutes)s * 200, true, %(until)s, %(until)s
FROM generate_series(0, 2) p;

INSERT INTO ledger.batches (state, attempt, planned, landed, absent, lost, accepted, duplicate, late, rejected,
    id_conflicts, settings, published_at, dag_run_id)
SELECT 'published', 1, 600, 600, 0, 0, 600, 0, 0, 0, 0, '{}', now(), 'benchmark' FROM generate_series(1, %(minutes)s);

INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost, historic,
    first_record_at, last_record_at, path, bytes, batch_id, previous_end)
SELECT 'benchmark', p, (m - 1) * 200, m * 200, 200, 0, 0, 0, t.at, t.at, 'file:///' || p || '/' || m, 10000, m,
       CASE WHEN m > 1 THEN (m - 1) * 200 END
FROM generate_series(1, %(minutes)s) m
CROSS JOIN generate_series(0, 2) p
CROSS JOIN LATERAL (SELECT %(until)s - (%(minutes)s - m) * interval '1 minute' AS at) t;
"""
ORDER_OF_ARRIVAL = {"users_by_hour": "hour", "sessions": "started_at"}  # the others: window by window
TABLES = (
    "traffic_by_window",
    "pages_by_window",
    "audience_by_window",
    "funnel_by_window",
    "revenue_by_window",
    "sessions_by_window",
    "users_by_hour",
    "sessions",
)


def fill(conn: Connection[Any], *, first: datetime, days: int, report: Callable[[str], None]) -> None:
    """Fill what views and dashboards read: all tables of results but `session_hours`, and the ledger behind them.

    All windows are complete. The newest hours are written after the vacuum, as autovacuum leaves them.

    Args:
        conn: Connection of a superuser to an empty database with all migrations.
        first: Start of the first UTC day.
        days: How many days.
        report: Gets a line for each step.
    """
    for setting in ("synchronous_commit = off", "maintenance_work_mem = '512MB'", "work_mem = '256MB'"):
        conn.execute(f"SET {setting}")
    began = time.monotonic()
    conn.execute(EVENTS)
    with conn.cursor().copy("COPY public.day_events FROM STDIN") as copy:
        for row in _events_of_a_day():
            copy.write_row(row)
    conn.execute(TEMPLATES)
    size = conn.execute("SELECT count(*), count(DISTINCT session_id) FROM public.day_events").fetchone()
    events, sessions = size or (0, 0)
    report(f"a day has {events:,} events in {sessions:,} sessions ({time.monotonic() - began:.0f} s)")
    for table in TABLES:
        began = time.monotonic()
        with _without_indexes(conn, table):
            _repeat(conn, table, first=first, days=days)
        _vacuum(conn, f"analytics.{table}")
        if table in REWRITTEN:
            conn.execute(
                REWRITE.format(table=table, time=REWRITTEN[table]), [first + timedelta(days=days) - UNVACUUMED]
            )
        report(f"{_size(conn, f'analytics.{table}')} ({time.monotonic() - began:.0f} s)")
    began = time.monotonic()
    ClientCursor(conn).execute(LEDGER, {"until": first + timedelta(days=days), "minutes": days * MINUTES_A_DAY})
    for table in ("partitions", "batches", "segments"):
        _vacuum(conn, f"ledger.{table}")
    report(f"{_size(conn, 'ledger.segments')} ({time.monotonic() - began:.0f} s)")


def _vacuum(conn: Connection[Any], table: str) -> None:
    conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(*table.split("."))))


def _size(conn: Connection[Any], table: str) -> str:
    found = conn.execute(
        "SELECT sum(reltuples)::bigint, pg_size_pretty(sum(pg_total_relation_size(c.oid)))"
        " FROM pg_class c WHERE c.relkind = 'r'"
        " AND (c.oid = %(table)s::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree(%(table)s)))",
        {"table": table},
    ).fetchone()
    rows, size = found or (0, "")
    return f"{table}: {rows:,} rows, {size} with indexes"


def _events_of_a_day() -> Iterator[tuple[object, ...]]:
    settings = GeneratorSettings.model_construct()
    shape = Shape(
        seed=settings.seed,
        users=settings.users,
        view_to_cart_rate=settings.view_to_cart_rate,
        cart_to_purchase_rate=settings.cart_to_purchase_rate,
    )
    midnight = int(DAY_START.timestamp()) * 1_000
    for minute in range(MINUTES_A_DAY):
        factor = day_factor(minute, settings.day_night_amplitude)
        sessions = round(settings.events_per_minute * factor / mean_actions(shape))
        for number in range(sessions):
            start = midnight + minute * MINUTE_MS + number * MINUTE_MS // sessions
            for action in actions_of_session(shape, settings.producer_id, start, number):
                bought = action.step.event_type == "PURCHASE"
                market = action.visitor.market
                yield (
                    DAY_START + timedelta(milliseconds=action.time_ms - midnight),
                    action.session_id,
                    action.step.event_type,
                    urlsplit(action.step.page).path,
                    action.visitor.user_id,
                    action.visitor.device,
                    market.region,
                    urlsplit(action.referrer).hostname if action.referrer else "(direct)",
                    market.currency if bought else None,
                    market.amount(PRICE) if bought else None,
                )


def _repeat(conn: Connection[Any], table: str, *, first: datetime, days: int) -> None:
    columns = [
        name
        for (name,) in conn.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = ('public.day_' || %s)::regclass AND attnum > 0", [table]
        )
    ]
    values = {
        "session_id": "'s-' || left(md5(session_id || %(day)s), 24)",
        **{name: f"{name} + %(shift)s" for name in TIMES},
    }
    expressions = ", ".join(values.get(name, name) for name in columns)
    order = ORDER_OF_ARRIVAL.get(table, "window_start + window_minutes * interval '1 minute', window_minutes")
    statement = (
        f"INSERT INTO analytics.{table} ({', '.join(columns)})"
        f" SELECT {expressions} FROM public.day_{table} ORDER BY {order}"
    )
    for day in range(days):
        conn.execute(statement, {"day": str(day), "shift": first + timedelta(days=day) - DAY_START})


@contextmanager
def _without_indexes(conn: Connection[Any], table: str) -> Iterator[None]:
    """Drop a table's indexes and keys, and make them again after the block: faster than to keep them up."""
    name = sql.Identifier("analytics", table)
    keys = conn.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = ('analytics.' || %s)::regclass AND contype IN ('p', 'u')",
        [table],
    ).fetchall()
    indexes = conn.execute(
        "SELECT indexrelid::regclass::text, regexp_replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')"
        " FROM pg_index i"
        " WHERE indrelid = ('analytics.' || %s)::regclass"
        " AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)",
        [table],
    ).fetchall()
    for key, _ in keys:
        conn.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, sql.Identifier(key)))
    for index, _ in indexes:
        conn.execute(f"DROP INDEX {index}")
    yield
    for key, definition in keys:
        conn.execute(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(name, sql.Identifier(key), sql.SQL(definition))
        )
    for _, definition in indexes:
        conn.execute(definition)
