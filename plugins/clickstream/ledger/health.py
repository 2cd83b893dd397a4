"""Ledger SQL of health checks: their rows, what of them stops the drain, and what the check of PostgreSQL needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from psycopg.rows import class_row, scalar_row

from clickstream.errors import OutputMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from psycopg import Connection


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one check found, as in `ledger.health_checks`."""

    component: str
    status: str
    latency_seconds: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A component whose newest check found it down: since when without a better one, and why."""

    component: str
    checked_at: datetime
    since: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Connections in use, and how many ordinary roles may have together."""

    used: int
    most: int


PRUNE = "DELETE FROM ledger.health_checks WHERE checked_at < now() - interval '7 days'"

OUTAGES = """
SELECT newest.component, newest.checked_at, newest.reason, (
    SELECT min(d.checked_at) FROM ledger.health_checks d
    WHERE d.component = newest.component AND d.checked_at > coalesce((
        SELECT max(other.checked_at) FROM ledger.health_checks other
        WHERE other.component = newest.component AND other.status <> 'down'), '-infinity')) AS since
FROM unnest(%(components)s::text[]) needed CROSS JOIN LATERAL (
    SELECT h.component, h.checked_at, h.status, h.reason FROM ledger.health_checks h
    WHERE h.component = needed ORDER BY h.checked_at DESC LIMIT 1) newest
WHERE newest.status = 'down' AND newest.checked_at > now() - %(fresh)s::interval
ORDER BY newest.component
"""

WRITE = """
INSERT INTO ledger.write_probe (token) VALUES (%(token)s)
ON CONFLICT (only_row) DO UPDATE SET token = excluded.token, written_at = excluded.written_at
"""

CONNECTIONS = """
SELECT (SELECT sum(numbackends) FROM pg_stat_database)::int AS used,
       (SELECT sum(setting::int * CASE name WHEN 'max_connections' THEN 1 ELSE -1 END) FROM pg_settings
        WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections'))::int AS most
"""


def limit_statements(conn: Connection[Any], milliseconds: int) -> None:
    """Let no further statement of this connection take longer."""
    conn.execute("SELECT set_config('statement_timeout', %s, false)", [str(milliseconds)])


def record(conn: Connection[Any], rows: Iterable[Row], dag_run_id: str) -> None:
    """Write the rows of a run, and remove those older than a week."""
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger.health_checks (component, status, latency_seconds, reason, dag_run_id)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(row.component, row.status, row.latency_seconds, row.reason, dag_run_id) for row in rows],
        )
        cursor.execute(PRUNE)


def checked_since(conn: Connection[Any], component: str) -> datetime | None:
    """When the component was first looked at, of the last week; None if it never was."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(
            "SELECT min(checked_at) FROM ledger.health_checks WHERE component = %s", [component]
        ).fetchone()


def rows_of(conn: Connection[Any], dag_run_id: str) -> list[Row]:
    """The newest row of each component that a run has written."""
    with conn.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(
            "SELECT DISTINCT ON (component) component, status, latency_seconds, reason FROM ledger.health_checks"
            " WHERE dag_run_id = %s ORDER BY component, checked_at DESC",
            [dag_run_id],
        ).fetchall()


def outages(conn: Connection[Any], components: Sequence[str], fresh: timedelta) -> list[Outage]:
    """Which of these components were found down by their newest check, if that is younger than `fresh`."""
    with conn.cursor(row_factory=class_row(Outage)) as cursor:
        return cursor.execute(OUTAGES, {"components": list(components), "fresh": fresh}).fetchall()


def write(conn: Connection[Any]) -> None:
    """Write the one row of `ledger.write_probe`, commit, and read it back.

    Args:
        conn: Connection in autocommit, so that the write is durable when it returns.

    Raises:
        OutputMismatch: If something else is read.
    """
    token = uuid4()
    conn.execute(WRITE, {"token": token})
    read = conn.execute("SELECT token FROM ledger.write_probe").fetchall()
    if read != [(token,)]:
        raise OutputMismatch(
            f"PostgreSQL committed {token} to ledger.write_probe and gives back {read}: is the connection"
            " clickstream_db led to two servers? Point it at the primary."
        )


def connections(conn: Connection[Any]) -> Connections:
    """How many connections the server has and may have."""
    with conn.cursor(row_factory=class_row(Connections)) as cursor:
        found = cursor.execute(CONNECTIONS).fetchone()
    if found is None:
        raise AssertionError
    return found
