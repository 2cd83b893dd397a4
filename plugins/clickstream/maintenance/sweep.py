"""Remove what the ledger has written down for removal, once its grace is over."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clickstream import storage
from clickstream.ledger import removals
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from clickstream.settings import Settings

log = logging.getLogger(__name__)

AT_ONCE = 8
ARCHIVE = "archive"


def sweep(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Remove files and folders whose grace is over. One that is gone already is as good as removed.

    The archive waits while a refill reads it.
    """
    outcome = Outcome(what="files and folders removed")
    after = ""
    with _archive_to_itself(conn) as archive_is_free, ThreadPoolExecutor(AT_ONCE) as pool:
        if not archive_is_free:
            outcome.lines.append("the archive waits: a refill reads it")
        while due := removals.due(conn, grace_hours=settings.retention.grace_hours, after=after):
            after = due[-1].path
            now = [one for one in due if archive_is_free or one.zone != ARCHIVE]
            if dry_run:
                sizes = list(pool.map(storage.size_of, [one.path for one in now]))
            else:
                sizes = list(pool.map(storage.remove, [one.path for one in now]))
                removals.forget(conn, [one.path for one in now])
            outcome.items += len(now)
            outcome.bytes += sum(sizes)
            log.info("%s", outcome)
    waiting = removals.waiting(conn)
    outcome.lines += [f"{zone}/: {items} wait, {size} bytes known" for zone, items, size in waiting]
    return outcome


@contextmanager
def _archive_to_itself(conn: Connection[Any]) -> Iterator[bool]:
    """Whether no refill reads the archive, nor can begin to while the block runs."""
    row = conn.execute("SELECT pg_try_advisory_lock(hashtext('archive'))").fetchone()
    free = bool(row and row[0])
    try:
        yield free
    finally:
        if free:
            conn.execute("SELECT pg_advisory_unlock(hashtext('archive'))")
