"""Published days: tables of events for analysts, which their own module knows how to write anew."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clickstream.erasure import events
from clickstream.ledger import erasures

if TYPE_CHECKING:
    from psycopg import Connection

    from clickstream.erasure.mapping import Tokens
    from clickstream.settings import Settings

MODULE = "clickstream.maintenance.days"


def rewrite(conn: Connection[Any], settings: Settings, tokens: Tokens) -> int:
    """Write every published day as the list makes it; returns how many events were changed.

    Raises:
        OutputMismatch: If the columns of an event don't give its fingerprint.
    """
    if find_spec(MODULE) is None:
        return 0
    published = import_module(MODULE)
    days, changed = published.days_of(settings), 0
    for day in days:

        def change(batch: pa.RecordBatch, name: str = f"published day {day}") -> pa.RecordBatch:
            nonlocal changed
            table = pa.Table.from_batches([batch])
            changed += events.changes(table, tokens)
            table = events.without_erased(table, tokens, name)
            return pa.RecordBatch.from_arrays(
                [column.combine_chunks() for column in table.columns], schema=table.schema
            )

        published.rewrite_day(settings, day, change)
    erasures.mark_days(conn, days)
    return changed
