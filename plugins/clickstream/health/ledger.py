"""The ledger: its equations, whose results are kept in `ledger.audits`, and erasures that ended half-way."""

from __future__ import annotations

from psycopg.errors import QueryCanceled

from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.ledger import audits, erasures

STATEMENT_TIMEOUT_MS = 25_000


def look(installation: Installation) -> Finding:
    """Run every equation in one snapshot.

    An audit that takes too long is degraded, not down: the equations may well hold. That none is young enough has an
    alert of its own.

    Raises:
        psycopg.Error: The ledger can't be read or written.
    """
    try:
        with installation.connect() as conn:
            unfinished = erasures.unfinished(conn)
            equations = audits.audit(conn, timeout_ms=STATEMENT_TIMEOUT_MS)
    except QueryCanceled:
        slow = (
            f"The equations took more than {STATEMENT_TIMEOUT_MS / 1000:g} s, so nobody knows whether they hold. Ask"
            " ledger.conservation by hand, at a quiet hour; pg_stat_activity and pg_locks show what is in its way."
        )
        return finding("No audit was written.", [Problem(Status.DEGRADED, slow)])
    broken = [
        Problem(
            Status.DOWN,
            f"The equation `{one.check_name}` of {one.subject} misses {one.unaccounted}: stop and ask why before the"
            " numbers are used. ledger.conservation has them all; `make lineage` leads from a window to its batches.",
        )
        for one in equations
        if one.unaccounted
    ]
    half_way = [
        Problem(
            Status.DEGRADED,
            f"Erasure request {request_id} ended before it was done: run erase_user again with the same userId."
            " ledger.erasure_requests says which run it was and how far it came.",
        )
        for request_id in unfinished
    ]
    return finding(f"{len(equations) - len(broken)} of {len(equations)} equations hold.", [*broken, *half_way])


CHECK = Check(
    component="ledger",
    look=look,
    remedy="SELECT * FROM ledger.conservation by hand; pg_stat_activity and pg_locks show what is in its way.",
    slow_seconds=10,
    deadline_seconds=30,
)
