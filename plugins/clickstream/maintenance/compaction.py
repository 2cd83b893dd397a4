"""Write the many small event files of a closed hour as few, without touching a number."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from airflow.sdk import ObjectStoragePath

from clickstream import storage
from clickstream.errors import OutputMismatch, StaleAttempt, StaleBase
from clickstream.ledger import hours, rewrites
from clickstream.maintenance.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from psycopg import Connection

    from clickstream.ledger.rewrites import LiveFile
    from clickstream.settings import Settings

log = logging.getLogger(__name__)

RECORDS_PER_FILE = 100_000  # as Spark splits an hour (spark_apps/clickstream_transform/write.py)
SPARE_FILES = 7
MOST_HOURS = 500
ROW_GROUP_BYTES = 16 << 20


def compact(conn: Connection[Any], settings: Settings, dag_run_id: str, *, dry_run: bool) -> Outcome:
    """Compact closed hours, each in a transaction of its own; one that changes meanwhile waits for the next run.

    An hour that can't be read holds up no other.

    An hour is closed once its windows are complete. While late events may still come, it waits for several files more
    than it needs, so that not each of them rewrites it.

    Raises:
        OutputMismatch: If files of an hour are missing or don't hold what the ledger says. The hour stays as it was,
            the others are done.
    """
    found = rewrites.hours_with_many_files(
        conn,
        records_per_file=RECORDS_PER_FILE,
        spare=SPARE_FILES,
        lateness_hours=settings.allowed_lateness_hours,
        most=MOST_HOURS,
    )
    outcome = Outcome(what="event files compacted")
    failed = []
    for hour in found:
        spelled = hours.spell(hour.hour)
        if not dry_run:
            try:
                written = compact_hour(conn, settings, hour.hour, dag_run_id)
            except (StaleBase, StaleAttempt) as error:
                log.info("%s", error)
                outcome.lines.append(f"{spelled}: changed meanwhile, left to the next run")
                continue
            except (OutputMismatch, OSError, pa.ArrowException) as error:
                log.exception("%s can't be compacted", spelled)
                failed.append(f"{spelled}: {error}")
                continue
            log.info("%s: %s files with %s events are %s now", spelled, hour.files, hour.records, written)
        outcome.items += hour.files
        outcome.bytes += hour.bytes
        outcome.lines.append(f"{spelled}: {hour.files} files, {hour.records} events, {hour.bytes} bytes")
    if failed:
        raise OutputMismatch("\n".join([*failed, *outcome.lines]))
    return outcome


def compact_hour(conn: Connection[Any], settings: Settings, hour: datetime, dag_run_id: str) -> int:
    """Write an hour's events into as few files as they need, and let these take the place of the others.

    Returns:
        How many files it has now.

    Raises:
        StaleAttempt: Another attempt at the same hour began, or has done it.
        StaleBase: The hour's files changed meanwhile.
        OutputMismatch: If a file doesn't hold what the ledger says.
    """
    attempt_id = rewrites.register(conn, kind="compaction", subject=hours.spell(hour), dag_run_id=dag_run_id)
    old = rewrites.live_files(conn, hour)
    try:
        new = _write(settings, attempt_id, hour, old)
        storage.sync(settings.storage_url, [path for path, _, _ in new])
        storage.verify(storage.WrittenFile(*file) for file in new)
        _require_equal(hour, written=sum(n for _, n, _ in new), recorded=sum(file.records for file in old))
        rewrites.swap(conn, attempt_id, hour, old, new)
    except Exception:
        rewrites.abandon(conn, attempt_id)
        raise
    return len(new)


def _require_equal(hour: datetime, *, written: int, recorded: int) -> None:
    if written != recorded:
        raise OutputMismatch(
            f"The event files of {hours.spell(hour)} hold {written} events, the ledger says {recorded}. Nothing was"
            " changed; check the storage."
        )


def _write(settings: Settings, attempt_id: UUID, hour: datetime, old: Sequence[LiveFile]) -> list[tuple[str, int, int]]:
    """Write the events in the order of the files; memory is bounded by a row group's bytes."""
    folder = storage.at(settings.storage_url, "events", str(attempt_id), f"hour={hours.spell(hour)}")
    new: list[tuple[str, int, int]] = []
    with ExitStack() as open_file:
        writer: pq.ParquetWriter | None = None
        room = 0
        for events in _row_groups(old):
            left = events
            while left.num_rows:
                if not room:
                    open_file.close()
                    path = folder / f"{len(new):05}.parquet"
                    storage.make_parent(path)
                    writer = open_file.enter_context(
                        pq.ParquetWriter(open_file.enter_context(path.open("wb")), left.schema, compression="zstd")
                    )
                    new.append((str(path), 0, 0))
                    room = RECORDS_PER_FILE
                if writer is None:
                    raise AssertionError
                part = left.slice(0, room)
                writer.write_table(part)
                path_of, records, _ = new[-1]
                new[-1] = (path_of, records + part.num_rows, 0)
                room -= part.num_rows
                left = left.slice(part.num_rows)
    return [(path, records, ObjectStoragePath(path).stat().st_size) for path, records, _ in new]


def _row_groups(files: Sequence[LiveFile]) -> Iterator[pa.Table]:
    """The events of the files in tables of about 16 MiB, with the columns of all; one that a file lacks is null."""
    columns = pa.unify_schemas([_schema(file) for file in files])
    waiting: list[pa.RecordBatch] = []
    size = 0

    def table() -> pa.Table:
        parts = [pa.Table.from_batches([batch]) for batch in waiting]
        return pa.concat_tables([columns.empty_table(), *parts], promote_options="default")

    for file in files:
        with ObjectStoragePath(file.path).open("rb") as stream:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=10_000):
                waiting.append(batch)
                size += batch.nbytes
                if size >= ROW_GROUP_BYTES:
                    yield table()
                    waiting, size = [], 0
    if waiting:
        yield table()


def _schema(file: LiveFile) -> pa.Schema:
    with ObjectStoragePath(file.path).open("rb") as stream:
        return pq.read_schema(stream).remove_metadata()
