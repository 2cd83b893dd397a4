"""Publishing 10,000 window rows takes at most three times as long as a bare COPY of the same rows.

Publishing is the library's own staging and replacing, of `traffic_by_window` and `batch_windows`, from a Parquet
file to the commit. The bare COPY gets ready text, and writes into a table of the same definition and indexes.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from functools import partial
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from benchmarks.measure import alternating, end, milliseconds, show
from benchmarks.postgres import new_database, server
from clickstream.ledger import staging, windows
from tests.kit.services import superuser

if TYPE_CHECKING:
    from psycopg import Connection

ROWS = 10_000
ROUNDS = 15
LIMIT = 3
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = ("events", "page_views", "add_to_carts", "purchases", "logins", "logouts", "users", "sessions")
PUBLISHED, REPLACED, COPIED = "published, new windows", "published, replaced windows", "bare COPY"


class Windows:
    """10,000 windows at a time: each call of a method takes the next ones.

    Args:
        conn: Connection of a superuser to an empty database with all migrations.
    """

    def __init__(self, conn: Connection[Any]) -> None:
        self.conn = conn
        self.published = 0
        self.replaced = 0
        self.copied = 0
        conn.execute("CREATE TABLE public.bare (LIKE analytics.traffic_by_window INCLUDING ALL)")

    def publish(self) -> float:
        """Publish windows that were not there before."""
        self.published += 1
        return self._publish(self.published, events=7)

    def replace(self) -> float:
        """Publish the newest windows again, with other numbers each time."""
        self.replaced += 1
        return self._publish(self.published, events=7 + self.replaced)

    def copy(self) -> float:
        """Copy rows of as many windows into the bare table."""
        self.copied += 1
        table = _rows(self.copied, events=7)
        table = table.append_column("batch_id", pa.array([1] * ROWS, pa.int64()))
        text = io.BytesIO()
        csv.write_csv(table, text, csv.WriteOptions(include_header=False))
        return milliseconds(partial(self._copy, ", ".join(table.column_names), text.getbuffer()))

    def _publish(self, number: int, *, events: int) -> float:
        ((batch_id,),) = self.conn.execute(
            "INSERT INTO ledger.batches (planned, landed, absent, lost, accepted, duplicate, late, rejected, state,"
            " settings, published_at, dag_run_id)"
            " VALUES (0, 0, 0, 0, 0, 0, 0, 0, 'published', '{}', now(), 'benchmark') RETURNING batch_id"
        ).fetchall()
        with TemporaryFile() as file:
            pq.write_table(_rows(number, events=events), file)
            return milliseconds(partial(self._publish_file, batch_id, file))

    def _publish_file(self, batch_id: int, file: IO[bytes]) -> None:
        with self.conn.transaction():
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            staged = staging.stage(self.conn, windows.TRAFFIC, names, parquet.iter_batches())
            windows.replace_windows(self.conn, batch_id, staged, [])

    def _copy(self, columns: str, text: memoryview) -> None:
        copying = f"COPY public.bare ({columns}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')"
        with self.conn.transaction(), self.conn.cursor().copy(copying) as copy:
            copy.write(text)


def _rows(number: int, *, events: int) -> pa.Table:
    """The windows of the number, 5 minutes each, one after the other."""
    first = FIRST + (number - 1) * ROWS * timedelta(minutes=5)
    counts = dict.fromkeys(NUMBERS, 0) | dict.fromkeys(("events", "page_views", "users", "sessions"), events)
    return pa.table(
        {
            "window_start": pa.array(
                [first + n * timedelta(minutes=5) for n in range(ROWS)], pa.timestamp("us", tz="UTC")
            ),
            "window_minutes": pa.array([5] * ROWS, pa.int16()),
            **{name: pa.array([value] * ROWS, pa.int64()) for name, value in counts.items()},
        }
    )


def main() -> None:
    """Measure, print, end with 0 or 1."""
    with server() as stack, superuser(stack, new_database(stack)) as conn:
        measured = Windows(conn)
        measured.publish()
        times = alternating(
            {PUBLISHED: measured.publish, COPIED: measured.copy, REPLACED: measured.replace}, rounds=ROUNDS
        )
        found = conn.execute(
            "SELECT (SELECT count(*) FROM analytics.traffic_by_window), (SELECT count(*) FROM public.bare)"
        ).fetchone()
    if found != (measured.published * ROWS, measured.copied * ROWS):
        raise AssertionError(found)
    ratios = {name: taken / times[COPIED] for name, taken in times.items()}
    show(
        f"{ROWS:,} rows, medians of {ROUNDS} alternating runs; limit {LIMIT} times the bare COPY for new windows",
        ("", "ms", "ratio"),
        [(name, times[name], f"{ratio:.2f}") for name, ratio in ratios.items()],
    )
    end([f"publishing new windows took {ratios[PUBLISHED]:.2f} times the bare COPY"] * (ratios[PUBLISHED] > LIMIT))


if __name__ == "__main__":
    main()
