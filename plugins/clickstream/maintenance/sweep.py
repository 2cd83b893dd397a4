"""Remove what the ledger has written down for removal, once its grace is over."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from clickstream import storage
from clickstream.errors import RemovalFailed
from clickstream.ledger import removals
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg import Connection

    from clickstream.settings import Settings

log = logging.getLogger(__name__)

AT_ONCE = 8
ARCHIVE = "archive"
MOST_NAMED = 20  # of the files and folders that can't be removed


def sweep(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Remove files and folders whose grace is over. One that is gone already is as good as removed.

    The archive waits while a refill reads it. One that can't be removed holds up no other.

    Raises:
        RemovalFailed: The storage refused some of them. They stay on the list, the others are done.
    """
    outcome = Outcome(what="files and folders removed")
    work = partial(_tried, storage.size_of if dry_run else storage.remove)
    failures: dict[str, Exception] = {}
    after = ""
    with _archive_to_itself(conn) as archive_is_free, ThreadPoolExecutor(AT_ONCE) as pool:
        if not archive_is_free:
            outcome.lines.append("the archive waits: a refill reads it")
        while due := removals.due(conn, grace_hours=settings.retention.grace_hours, after=after):
            after = due[-1].path
            now = [one for one in due if archive_is_free or one.zone != ARCHIVE]
            sizes: dict[str, int] = {}
            for one, done in zip(now, pool.map(work, [one.path for one in now]), strict=True):
                if isinstance(done, int):
                    sizes[one.path] = done
                else:
                    failures[one.path] = done
            if not dry_run:
                for one in now:
                    if one.zone == ARCHIVE:
                        storage.remove_empty_above(one.path, f"{settings.storage_url}/archive/clickstream")
                removals.forget(conn, list(sizes))
            outcome.items += len(sizes)
            outcome.bytes += sum(sizes.values())
            log.info("%s", outcome)
    if failures:
        raise RemovalFailed(_refusal(failures, outcome))
    waiting = removals.waiting(conn)
    outcome.lines += [f"{zone}/: {items} wait, {size} bytes known" for zone, items, size in waiting]
    return outcome


def _tried(work: Callable[[str], int], path: str) -> int | Exception:
    """Bytes of a file or folder, or why the storage refused."""
    try:
        return work(path)
    except (OSError, BotoCoreError, ClientError) as error:
        return error


def _refusal(failures: dict[str, Exception], outcome: Outcome) -> str:
    named = [f"{path}: {type(error).__name__}: {error}" for path, error in list(failures.items())[:MOST_NAMED]]
    if len(failures) > MOST_NAMED:
        named.append(f"and {len(failures) - MOST_NAMED:,} more")
    head = f"The storage refused {len(failures):,} files and folders that nothing names any more:"
    remedy = (
        f"All others that were due are done ({outcome}). Check the permissions on these, their owner and the disk; the"
        " next run tries them again."
    )
    return "\n".join([head, *named, remedy])


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
