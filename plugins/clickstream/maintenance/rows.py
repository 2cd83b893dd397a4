"""Let go of rows of their own for what is long past: batches, segments, drains, rewrites of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clickstream.ledger import folding
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from psycopg import Connection

    from clickstream.settings import Settings

BATCHES_AT_ONCE = 2_000


def fold_ledger(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Add up batches that were published `ledger_days` ago in one, and their segments in one a partition."""
    keep = settings.retention.ledger_days
    outcome = Outcome(what="batches folded")
    found = folding.foldable(conn, keep)
    while len(found) > 1:
        part, rest = found[:BATCHES_AT_ONCE], found[BATCHES_AT_ONCE:]
        if not dry_run:
            folding.fold(conn, part)
        outcome.items += len(part) - 1
        found = [part[-1], *rest]
    drains = folding.old_drains(conn, keep)
    outcome.lines.append(f"{drains} old drains")
    if not dry_run:
        while folding.forget_drains(conn, keep):
            pass
        released = folding.forget_released(conn, keep)
        rewrites = folding.forget_rewrites(conn, keep)
        outcome.lines.append(f"{released} released batches, {rewrites} rewrites of files")
    return outcome
