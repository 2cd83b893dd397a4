"""Ledger SQL of windows: replacing them in all of their tables, and marking them complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from clickstream.ledger.publishing import lock_analytics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg import Connection

    from clickstream.ledger.staging import Staged

KEY = ("window_start", "window_minutes")
TRAFFIC = "traffic_by_window"

REMOVE_OTHER_ROWS = """
WITH gone AS (
    DELETE FROM {target} t USING {windows} w
    WHERE t.window_start = w.window_start AND t.window_minutes = w.window_minutes
      AND NOT EXISTS (SELECT FROM {source} s WHERE ({staged_columns}) = ({table_columns}))
    RETURNING t.window_start, t.window_minutes)
INSERT INTO changed_windows SELECT DISTINCT window_start, window_minutes FROM gone
"""

ADD_MISSING_ROWS = """
WITH added AS (
    INSERT INTO {target} ({columns})
    SELECT {columns} FROM {source}
    EXCEPT SELECT {table_columns} FROM {target} t JOIN {windows} w USING (window_start, window_minutes)
    RETURNING window_start, window_minutes)
INSERT INTO changed_windows SELECT DISTINCT window_start, window_minutes FROM added
"""

UPSERT_TRAFFIC = """
INSERT INTO {target} AS w ({columns}, batch_id)
SELECT {columns}, {batch_id} FROM {source}
ON CONFLICT (window_start, window_minutes) DO UPDATE SET {assignments}, batch_id = {batch_id}, published_at = now(),
    revision = w.revision + (ROW({old}) IS DISTINCT FROM ROW({new})
        OR (w.window_start, w.window_minutes) IN (SELECT window_start, window_minutes FROM changed_windows))::int
"""

REMEMBER_WINDOWS = """
INSERT INTO ledger.batch_windows (batch_id, window_start, window_minutes)
SELECT {batch_id}, window_start, window_minutes FROM {source}
"""

COMPLETE = """
UPDATE analytics.traffic_by_window SET status = 'complete' WHERE status = 'provisional'
  AND window_start + (window_minutes + 2) * interval '1 minute' <=
      (SELECT min(watermark) FROM ledger.watermarks HAVING bool_and(watermark IS NOT NULL))
"""


def replace_windows(conn: Connection[Any], batch_id: int, traffic: Staged, others: Iterable[Staged]) -> None:
    """Publish windows: all that each table had for them becomes what is staged.

    Rows that stay as they are aren't written again. The revision of a window grows where a number of any table
    changes; the status is left to `complete_windows`.

    Args:
        conn: Connection in the publishing transaction.
        batch_id: The batch that publishes.
        traffic: Staged rows of `traffic_by_window`, one for each window that is replaced.
        others: Staged rows of the other tables whose first columns are `KEY`, all of them NOT NULL.
    """
    conn.execute("CREATE TEMP TABLE changed_windows (window_start timestamptz, window_minutes smallint) ON COMMIT DROP")
    for table in others:
        parts = {
            "target": table.target,
            "source": table.source,
            "windows": traffic.source,
            "columns": table.listed(),
            "staged_columns": table.listed("s"),
            "table_columns": table.listed("t"),
        }
        conn.execute(sql.SQL(REMOVE_OTHER_ROWS).format(**parts))
        conn.execute(sql.SQL(ADD_MISSING_ROWS).format(**parts))
    numbers = [name for name in traffic.columns if name not in KEY]
    parts = {
        "target": traffic.target,
        "source": traffic.source,
        "columns": traffic.listed(),
        "assignments": traffic.assignments(numbers),
        "old": traffic.listed("w", columns=numbers),
        "new": traffic.listed("excluded", columns=numbers),
        "batch_id": sql.Literal(batch_id),
    }
    conn.execute(sql.SQL(UPSERT_TRAFFIC).format(**parts))
    conn.execute(sql.SQL(REMEMBER_WINDOWS).format(**parts))


def complete_windows(conn: Connection[Any]) -> int:
    """Mark windows complete once every partition's watermark has passed their end by two minutes.

    Returns:
        How many became complete.
    """
    with conn.transaction():
        lock_analytics(conn)
        return conn.execute(COMPLETE).rowcount
