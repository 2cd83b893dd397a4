"""The ledger's equations: what `ledger.conservation` says now, which is kept in `ledger.audits`."""

from __future__ import annotations

from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.ledger import audits

STATEMENT_TIMEOUT_MS = 25_000


def look(installation: Installation) -> Finding:
    """Run every equation in one snapshot.

    Raises:
        psycopg.Error: The ledger can't be read or written, or it takes too long.
    """
    with installation.connect() as conn:
        equations = audits.audit(conn, timeout_ms=STATEMENT_TIMEOUT_MS)
    broken = [
        Problem(
            Status.DOWN,
            f"The equation `{one.check_name}` of {one.subject} misses {one.unaccounted}: stop and ask why before the"
            " numbers are used. ledger.conservation has them all; `make lineage` leads from a window to its batches.",
        )
        for one in equations
        if one.unaccounted
    ]
    return finding(f"{len(equations) - len(broken)} of {len(equations)} equations hold.", broken)


CHECK = Check(
    component="ledger",
    look=look,
    remedy="SELECT * FROM ledger.conservation by hand; pg_stat_activity and pg_locks show what is in its way.",
    slow_seconds=10,
    deadline_seconds=30,
)
