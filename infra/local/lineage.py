"""Where the numbers of a window come from: its batches, their offset ranges and raw files, and the Airflow runs."""

from datetime import UTC, datetime

import psycopg
from rich.console import Console

from infra.local import credentials
from infra.local.errors import StackError
from infra.local.stack import Stack
from infra.local.tables import show

NEWEST = """
SELECT window_start FROM analytics.traffic_by_window WHERE window_minutes = %s ORDER BY window_start DESC LIMIT 1
"""

WINDOW = """
SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS window, window_minutes AS minutes, events,
       users, sessions, status, revision, batch_id AS last_batch
FROM analytics.traffic_by_window WHERE window_start = %(window_start)s AND window_minutes = %(minutes)s
"""

BATCHES = """
SELECT DISTINCT batch_id AS batch, to_char(published_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS published,
       %(airflow)s || '/dags/aggregate_clickstream/runs/' || aggregate_run AS airflow_run
FROM ledger.lineage WHERE window_start = %(window_start)s AND window_minutes = %(minutes)s ORDER BY batch
"""

SEGMENTS = """
SELECT batch_id AS batch, topic || '/' || partition AS partition, first_offset, end_offset, records, lost,
       raw_file, drain_run
FROM ledger.lineage WHERE window_start = %(window_start)s AND window_minutes = %(minutes)s
ORDER BY batch_id, topic, partition, first_offset
"""


def lineage(stack: Stack, console: Console, window: str | None, minutes: int) -> None:
    """Print the lineage of a window.

    Args:
        stack: The stack, which is up.
        console: Where to print.
        window: Its start in ISO 8601, in UTC unless it names another zone; the newest window when None.
        minutes: Its width.

    Raises:
        StackError: There is no such window.
    """
    with psycopg.connect(credentials.reader_url(stack), autocommit=True) as conn:
        start = _start(window) if window else _newest(conn, minutes)
        named = {"window_start": start, "minutes": minutes, "airflow": stack.airflow_url}
        console.rule("The window: analytics.traffic_by_window, UTC")
        if not show(conn, console, WINDOW, **named):
            raise StackError(
                f"There is no window of {minutes} minutes that starts at {start:%Y-%m-%dT%H:%M}Z with events in it.",
                remedy="Windows are in analytics.traffic_by_window (make psql); WINDOW is a start, MINUTES is 5 or 60.",
            )
        console.rule("The batches that published it, each replacing what was there")
        if not show(conn, console, BATCHES, **named):
            console.print("Retention has folded them: the ledger no longer has rows of their own (docs/retention.md).")
        console.rule("Their offsets in Kafka: ranges [first, end), raw files, and the runs that landed them")
        show(conn, console, SEGMENTS, **named)


def _start(window: str) -> datetime:
    try:
        start = datetime.fromisoformat(window)
    except ValueError as error:
        raise StackError(f"{window!r} is no time: {error}.", remedy="Write it as in 2026-01-31T12:05Z.") from error
    return start if start.tzinfo else start.replace(tzinfo=UTC)


def _newest(conn: psycopg.Connection[tuple[datetime]], minutes: int) -> datetime:
    row = conn.execute(NEWEST, [minutes]).fetchone()
    if row is None:
        raise StackError(f"No window of {minutes} minutes is published yet.", remedy="Run `make demo` first.")
    return row[0]
