"""Retention of the results: windows age from their last publication, sessions and users from their last hour.

A month of 5-minute windows, a year of 60-minute windows and a month of sessions' hours each go as a whole, once all
of it may go. Row by row go only sessions, with the month of their hours, and what is in default partitions.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from psycopg.errors import DeadlockDetected, LockNotAvailable

from clickstream.ledger import partitions
from clickstream.ledger.publishing import lock_analytics
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from clickstream.ledger.partitions import Partition
    from clickstream.settings import Settings

AHEAD = timedelta(days=62)
WINDOWS_AT_ONCE = 1_000
ROWS_AT_ONCE = 20_000


class _Remove(Protocol):
    def __call__(self, *, limit: int) -> int: ...


def add_partitions(conn: Connection[Any], _settings: Settings, *, dry_run: bool) -> Outcome:
    """Make the partitions of the next two months, and with them of the next year in time; for once a day.

    Then it takes the statistics that autovacuum doesn't.
    """
    outcome = Outcome(what="partitions added")
    try:
        with conn.transaction(force_rollback=dry_run):
            made = partitions.add(conn, datetime.now(UTC) + AHEAD)
    except LockNotAvailable:  # made two months ahead: another day will do
        outcome.lines.append("none: a default partition is being read; the next run adds them")
        made = []
    if not dry_run:
        try:
            partitions.analyze(conn)
        except LockNotAvailable:
            outcome.lines.append("no statistics: a partition is being vacuumed or analyzed; the next run takes them")
    outcome.items += len(made)
    outcome.lines += [f"analytics.{name}" for name in made]
    return outcome


def remove_windows(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Remove windows whose events are gone, once their last publication is older than the period of their width.

    Args:
        conn: Autocommit connection of the writer.
        settings: The settings.
        dry_run: Whether to only say what would go.

    Returns:
        Partitions that went and windows deleted from default partitions, as items; the bytes of the partitions.
    """
    outcome = Outcome(what="partitions and single windows")
    for minutes, days in ((5, settings.retention.windows_5_days), (60, settings.retention.windows_60_days)):
        period = timedelta(days=days)
        for group in partitions.ended(conn, partitions.WINDOWS, period, window_minutes=minutes):
            _drop_windows(conn, group, period, outcome, dry_run=dry_run)
        if dry_run:
            rest = partitions.count_rest_of_windows(conn, period, window_minutes=minutes)
        else:
            remove = partial(partitions.remove_rest_of_windows, conn, period, window_minutes=minutes)
            rest = _in_chunks(conn, remove, WINDOWS_AT_ONCE)
        outcome.items += rest
        if rest:
            outcome.lines.append(f"{rest:,} windows of {minutes} minutes in default partitions")
    return outcome


def remove_sessions(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Remove sessions all of whose events are gone, and users by hour, once their last hour is older than the period.

    Args:
        conn: Autocommit connection of the writer.
        settings: The settings.
        dry_run: Whether to only say what would go.

    Returns:
        Sessions that went, as items; the bytes of the partitions that went.
    """
    period = timedelta(days=settings.retention.sessions_days)
    outcome = Outcome(what="sessions")
    for table in (partitions.SESSION_HOURS, partitions.USERS_BY_HOUR):
        for (one,) in partitions.ended(conn, [table], period):
            _drop_hours(conn, one, period, outcome, dry_run=dry_run)
    if dry_run:
        sessions, users = partitions.count_rest_of_sessions(conn, period)
    else:
        sessions = _in_chunks(conn, partial(partitions.remove_rest_of_sessions, conn, period), ROWS_AT_ONCE)
        users = _in_chunks(conn, partial(partitions.remove_rest_of_users, conn, period), ROWS_AT_ONCE)
    outcome.items += sessions
    if sessions:
        outcome.lines.append(f"{sessions:,} sessions in the default partition")
    if users:
        outcome.lines.append(f"{users:,} users by hour in the default partition")
    return outcome


def _drop_windows(
    conn: Connection[Any], group: list[Partition], period: timedelta, outcome: Outcome, *, dry_run: bool
) -> None:
    """Drop the partitions of one range together, if all of their windows may go."""
    with _dropping(conn, group[0], outcome, dry_run=dry_run) as found:
        if not found or not partitions.windows_may_go(conn, group[0], period):
            return
        lines = [_line(conn, one) for one in group]
        for one in () if dry_run else group:
            partitions.drop(conn, one)
        outcome.items += len(group)
        outcome.bytes += sum(one.bytes for one in group)
        outcome.lines += lines


def _drop_hours(conn: Connection[Any], one: Partition, period: timedelta, outcome: Outcome, *, dry_run: bool) -> None:
    """Drop a partition of sessions' hours with the sessions that go, or one of users by hour."""
    with _dropping(conn, one, outcome, dry_run=dry_run) as found:
        if not found or not partitions.hours_may_go(conn, one):
            return
        line = _line(conn, one)
        if one.table_name == partitions.SESSION_HOURS:
            remove = partitions.count_sessions_of if dry_run else partitions.remove_sessions_of
            gone, kept = remove(conn, one, period)
            line += f"; {gone:,} sessions go, {kept:,} rows of others are kept"
            outcome.items += gone
        elif not dry_run:
            partitions.drop(conn, one)
        outcome.bytes += one.bytes
        outcome.lines.append(line)


@contextmanager
def _dropping(conn: Connection[Any], one: Partition, outcome: Outcome, *, dry_run: bool) -> Iterator[bool]:
    """A transaction that drops partitions, as the only writer; whether the first of them is still there.

    Readers that keep a partition for seconds are no failure: it goes another day.
    """
    try:
        with conn.transaction():
            if not dry_run:
                lock_analytics(conn)
            yield partitions.exists(conn, one)
    except (LockNotAvailable, DeadlockDetected):
        outcome.lines.append(f"analytics.{one.partition} is being read and stays until the next run")


def _in_chunks(conn: Connection[Any], remove: _Remove, limit: int) -> int:
    """Remove as many at a time until there are no more, and return how many that were."""
    total = 0
    while True:
        with conn.transaction():
            lock_analytics(conn)
            removed = remove(limit=limit)
        total += removed
        if removed < limit:
            return total


def _line(conn: Connection[Any], one: Partition) -> str:
    return f"analytics.{one.partition}: {partitions.rows_of(conn, one):,} rows, {one.bytes:,} bytes"
