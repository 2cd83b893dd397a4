"""Let go of what the ledger knows and no longer needs: raw files, rejected records, folders of attempts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath

from clickstream import storage
from clickstream.ledger import removals, retirement
from clickstream.ledger.removals import Removal
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from psycopg import Connection

    from clickstream.ledger.retirement import DeadAttempt
    from clickstream.settings import Settings

AT_ONCE = 8


def retire_raw(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Raw files of batches that were published `raw_days` ago. What is not published stays, however old it is."""
    keep = settings.retention.raw_days
    old = retirement.old_raw_files(conn, keep)
    while not dry_run and retirement.retire_raw_files(conn, keep):
        pass
    return Outcome(what="raw files retired", items=old.items, bytes=old.bytes)


def retire_rejected(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Rejected records of batches that were published `rejected_days` ago, files and samples; their counts stay."""
    keep = settings.retention.rejected_days
    old = retirement.old_rejected(conn, keep)
    while not dry_run and retirement.retire_rejected(conn, settings.storage_url, keep):
        pass
    size = _size_of_folders(settings, "rejected", old) if dry_run else 0
    return Outcome(what="batches whose rejected records are retired", items=len(old), bytes=size)


def retire_attempts(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Specs, reports and staged tables of attempts that were published `attempts_days` ago."""
    keep = settings.retention.attempts_days
    old = retirement.old_attempts(conn, keep)
    while not dry_run and retirement.retire_attempts(conn, settings.storage_url, keep):
        pass
    size = _size_of_folders(settings, "batches", old) if dry_run else 0
    return Outcome(what="folders of published attempts retired", items=len(old), bytes=size)


def sweep_dead(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Folders of attempts that the ledger calls dead, and files of committed ones that became no segment."""
    outcome = Outcome(what="folders and files of dead attempts")
    with conn.transaction(force_rollback=dry_run):
        retirement.settle_attempts(conn, settings.retention.grace_hours)
        attempts = retirement.dead_attempts(conn)
    for attempt in attempts:
        found = list(_litter(settings, attempt))
        outcome.items += len(found)
        if dry_run:
            outcome.bytes += sum(storage.size_of(one.path) for one in found)
        else:
            with conn.transaction():
                removals.decide(conn, found, reason="dead")
                retirement.mark_swept(conn, attempt.attempt_id)
    return outcome


def _size_of_folders(settings: Settings, zone: str, attempts: Iterable[UUID]) -> int:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(storage.size_of, [f"{settings.storage_url}/{zone}/{one}/" for one in attempts]))


def _litter(settings: Settings, attempt: DeadAttempt) -> Iterator[Removal]:
    zones = {"batch": ("events", "rejected", "batches"), "drain": (), "compaction": ("events",), "erasure": ("events",)}
    for zone in zones[attempt.kind]:
        yield Removal(path=f"{settings.storage_url}/{zone}/{attempt.attempt_id}/", zone=zone)
    for folder in attempt.raw_folders:
        home = f"{settings.storage_url}/raw/{folder}/{attempt.attempt_id}"
        if not any(path.startswith(f"{home}/") for path in attempt.segments):
            yield Removal(path=f"{home}/", zone="raw")
            continue
        for file in storage.listed(ObjectStoragePath(home)):
            if str(file) not in attempt.segments:
                yield Removal(path=str(file), zone="raw")
