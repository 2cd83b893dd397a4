"""Published days: a table of events for analysts, of which only days with the user are written anew."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clickstream.erasure import events
from clickstream.ledger import erasures, published_days
from clickstream.maintenance import days

if TYPE_CHECKING:
    from datetime import date

    from psycopg import Connection

    from clickstream.erasure.mapping import Tokens
    from clickstream.settings import Settings


def sessions(settings: Settings, user_id: str) -> set[str]:
    """The sessions of a user."""
    found: set[str] = set()
    for day in days.days_of(settings):
        for batch in days.batches_of(settings, day, events.IDS):
            found |= events.sessions_of(pa.Table.from_batches([batch]), user_id)
    return found


def concerned(settings: Settings, tokens: Tokens) -> int:
    """How many events the list changes."""
    return sum(_concerned(settings, day, tokens) for day in days.days_of(settings))


def rewrite(conn: Connection[Any], settings: Settings, tokens: Tokens) -> int:
    """Write every day of which the list changes an event as the list makes it; returns how many events were changed.

    No day is published meanwhile: a run that has read files from before the erasure has ended, and what it wrote is
    looked at too.

    Raises:
        OutputMismatch: If the columns of an event don't give its fingerprint.
        CommitFailedError: If another writer changed a day meanwhile. Run again.
    """
    changed = 0
    with published_days.alone(conn, wait=True):
        there = days.days_of(settings)
        for day in there:
            of_day = _concerned(settings, day, tokens)
            if of_day:
                days.rewrite_day(settings, day, partial(_without_erased, tokens=tokens, day=day))
            changed += of_day
        erasures.mark_days(conn, there)
    return changed


def _concerned(settings: Settings, day: date, tokens: Tokens) -> int:
    return sum(
        events.changes(pa.Table.from_batches([one]), tokens) for one in days.batches_of(settings, day, events.IDS)
    )


def _without_erased(batch: pa.RecordBatch, tokens: Tokens, day: date) -> pa.RecordBatch:
    table = events.without_erased(pa.Table.from_batches([batch]), tokens, f"published day {day}")
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)
