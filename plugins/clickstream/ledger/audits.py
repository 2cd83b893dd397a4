"""Ledger SQL of audits: what the equations say, as of one moment, and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row

if TYPE_CHECKING:
    from psycopg import Connection


@dataclass(frozen=True, kw_only=True)
class Equation:
    """A row of `ledger.conservation`."""

    check_name: str
    subject: str
    value: int
    unaccounted: int


AUDIT = """
WITH found AS MATERIALIZED (
    SELECT check_name, subject, value, unaccounted FROM ledger.conservation
), kept AS (
    INSERT INTO ledger.audits (audited_at, check_name, value, unaccounted)
    SELECT now(), check_name, sum(value), sum(unaccounted) FROM found GROUP BY check_name
)
SELECT check_name, subject, value, unaccounted FROM found
"""

PRUNE = "DELETE FROM ledger.audits WHERE audited_at < now() - interval '7 days'"


def audit(conn: Connection[Any], *, timeout_ms: int) -> list[Equation]:
    """Run every equation in one statement, and so in one snapshot; keep the sums of each check for a week.

    Raises:
        psycopg.Error: A statement took longer than `timeout_ms`, or the ledger can't be read or written.
    """
    with conn.transaction(), conn.cursor(row_factory=class_row(Equation)) as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(timeout_ms)])
        equations = cursor.execute(AUDIT).fetchall()
        cursor.execute(PRUNE)
    return equations
