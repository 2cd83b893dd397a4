"""Closed UTC days as a Delta table, which DuckDB, Polars, Athena and Spark open (docs/published-days.md).

A day is replaced in one commit of the table, and its row in the ledger is written afterwards: who is killed in between
has done no harm, the next run writes the day again.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from airflow.sdk import ObjectStoragePath
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from clickstream import storage
from clickstream.errors import OutputMismatch
from clickstream.ledger import published_days as ledger
from clickstream.maintenance.outcome import Outcome
from clickstream_transform.event_schema import FIELDS, AmountField, Field, IntegerField, TextField, TimeField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from psycopg import Connection

    from clickstream.settings import Settings

_TIME = pa.timestamp("us", tz="UTC")
_TYPES: Mapping[type[Field], pa.DataType] = {
    TextField: pa.string(),
    TimeField: _TIME,
    AmountField: pa.decimal128(24, 6),
    IntegerField: pa.int64(),
}
SCHEMA = pa.schema(
    {
        "topic_id": pa.string(),
        "partition": pa.int32(),
        "offset": pa.int64(),
        "record_time": _TIME,
        **{field.column: _TYPES[type(field)] for field in FIELDS},
        "fingerprint": pa.binary(),
        "day": pa.date32(),
    }
)
"""The table's columns: those of the events zone, then the UTC day of the event's time, by which it is partitioned.

A field that is added to the contract is one of them; files and days without it read as null.
"""

STATISTICS = "event_time"
"""The column of which the log keeps the least and the greatest value; the log outlives the files, so it must say
nothing about a person.
"""

CONFIGURATION = {
    "delta.dataSkippingStatsColumns": STATISTICS,
    "delta.checkpointInterval": "10",
    "delta.logRetentionDuration": "interval 7 days",
    "delta.enableExpiredLogCleanup": "true",
    # Longer than the longest grace: until it is over, the log knows since when a file is not needed.
    "delta.deletedFileRetentionDuration": "interval 31 days",
}

READ_ROWS = 16_384
GROUP_ROWS = 65_536
"""Rows that are read at once, and rows of a row group: as many are in memory, however many the day has."""

TARGET_BYTES = 64 * 1024 * 1024
"""A file that has grown to as much is followed by another."""

WHAT_PUBLISHED, WHAT_REMOVED = "published days", "published days past their time"
BUSY = "Another run writes or removes published days right now: nothing was done, the next run goes on."


def table_url(settings: Settings) -> str:
    """Where the table is: `file:///...` or `s3://...`."""
    return f"{settings.storage_url}/published/events"


def publish_days(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Write each closed day whose table is not what its live files are.

    Args:
        conn: Connection of the writer in autocommit mode.
        settings: Where the files are, and when a day is closed.
        dry_run: Only say what would be written.

    Returns:
        The days that were written; bytes of their event files.

    Raises:
        OutputMismatch: A file or the table has other rows than the ledger says. The ledger has no row of this day
            then; the other days are done.
        DeltaError: The table can't be read or written.
    """
    outcome = Outcome(what=WHAT_PUBLISHED)
    if dry_run:
        for day in ledger.due(conn, allowed_lateness_hours=settings.allowed_lateness_hours):
            _count(outcome, day, f"{day.day}: {day.events:,} events would be written.")
        return outcome
    with ledger.alone(conn) as alone:
        if not alone:
            outcome.lines.append(BUSY)
            return outcome
        mismatches = []
        for day in ledger.due(conn, allowed_lateness_hours=settings.allowed_lateness_hours):
            try:
                read = _write(conn, settings, day.day)
            except OutputMismatch as error:  # of one day, which holds up no other
                mismatches.append(str(error))
                continue
            except CommitFailedError as error:
                outcome.lines.append(
                    f"{day.day}: another writer of the table was first ({error}). Nothing of the day was changed; the"
                    " next run writes it."
                )
                continue
            if ledger.record(conn, read):
                _count(outcome, day, f"{day.day}: {read.events:,} events written.")
            else:
                outcome.lines.append(
                    f"{day.day}: its events changed while they were written; the next run writes the day again."
                )
    if mismatches:
        raise OutputMismatch("\n".join([*mismatches, *outcome.lines]))
    return outcome


def record_days(conn: Connection[Any], settings: Settings) -> None:
    """Note each day that is due as if it had been written; for a transaction that is rolled back."""
    for day in ledger.due(conn, allowed_lateness_hours=settings.allowed_lateness_hours):
        ledger.record(conn, ledger.content(conn, day.day))


def _count(outcome: Outcome, day: ledger.Due, line: str) -> None:
    outcome.items += 1
    outcome.bytes += day.bytes
    outcome.lines.append(line)


def remove_days(conn: Connection[Any], settings: Settings, *, dry_run: bool) -> Outcome:
    """Remove days past their time from the table, then files that no version within the grace needs.

    A day stays for as long as it has live event files, since the table would be without events that the ledger has.

    Args:
        conn: Connection of the writer in autocommit mode.
        settings: Where the table is, and for how long days and unneeded files are kept.
        dry_run: Only say what would be removed, with the files that are unneeded already.

    Returns:
        The days that were removed; bytes of the files that were removed, which belonged to days that were removed or
        written anew before, or to writers that were killed.

    Raises:
        DeltaError: The table can't be read or written.
    """
    outcome = Outcome(what=WHAT_REMOVED)
    with nullcontext(enter_result=True) if dry_run else ledger.alone(conn) as alone:
        if not alone:
            outcome.lines.append(BUSY)
            return outcome
        table = _open(settings)
        there = _days(table)
        gone = ledger.expired(conn, there, kept_days=settings.retention.published_days)
        outcome.items = len(gone)
        outcome.lines += [f"{day}: {'would be removed' if dry_run else 'removed'}." for day in gone]
        try:
            if not dry_run:
                _delete(table, set(gone) & set(there))
                ledger.forget(conn, gone)
            if table is not None:
                _vacuum(table, settings, outcome, dry_run=dry_run)
        except CommitFailedError as error:
            outcome.lines.append(f"Another writer of the table was first ({error}); the next run goes on.")
    return outcome


def rewrite_day(settings: Settings, day: date, change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> int:
    """Replace the rows of a day by changed ones, in one commit; files with the old ones go after the grace.

    Args:
        settings: Where the table is.
        day: A day of the table; one that it doesn't have stays so.
        change: What makes the new rows, as many as it is given, with the same columns.

    Returns:
        Rows of the day.

    Raises:
        OutputMismatch: The number of rows is not what it was. Nothing was changed.
        CommitFailedError: Another writer changed the day meanwhile. Nothing was changed; do it again.
    """
    table = _open(settings)
    if table is None or day not in _days(table):
        return 0
    paths = [path for path, _ in _files(table, settings, day)]
    batches = (change(batch) for batch in _batches(paths, day))
    return _replace(table, settings, day, batches, rows=_rows(table, settings, day))


def batches_of(settings: Settings, day: date, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """These columns of the rows that the table has of a day, some at a time; none of a day that it doesn't have."""
    table = _open(settings)
    if table is not None:
        yield from _read([path for path, _ in _files(table, settings, day)], columns)


def days_of(settings: Settings) -> list[date]:
    """The days that the table has, oldest first; none where there is no table yet."""
    return _days(_open(settings))


def _write(conn: Connection[Any], settings: Settings, day: date) -> ledger.Content:
    # Opened before the ledger is read: who changes the day in between, and the table after, makes the commit fail.
    table = _open(settings) or _create(settings)
    read = ledger.content(conn, day)
    storage.verify(read.files)
    _replace(table, settings, day, _batches([file.path for file in read.files], day), rows=read.events)
    return read


def _batches(paths: Iterable[str], day: date) -> Iterator[pa.RecordBatch]:
    return (_shaped(batch, day) for batch in _read(paths))


def _read(paths: Iterable[str], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with ObjectStoragePath(path).open("rb") as stream:
            yield from pq.ParquetFile(stream).iter_batches(batch_size=READ_ROWS, columns=columns)


def _shaped(batch: pa.RecordBatch, day: date) -> pa.RecordBatch:
    """The batch with the table's columns; those that it doesn't have are null."""
    if unknown := set(batch.schema.names) - set(SCHEMA.names):
        raise OutputMismatch(
            f"Column {min(unknown)} of the events of {day} is no field of this release. Deploy one that has it (FIELDS"
            " in clickstream_transform/event_schema.py), then run again."
        )
    columns = {
        field.name: batch[field.name].cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in SCHEMA
    }
    columns["day"] = pa.repeat(pa.scalar(day, pa.date32()), batch.num_rows)
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def _replace(table: DeltaTable, settings: Settings, day: date, batches: Iterable[pa.RecordBatch], *, rows: int) -> int:
    """Replace a day by these batches in one commit, which is durable then; returns its rows."""
    there = _files(table, settings, day)
    written = list(_written(settings, day, batches))
    if (found := sum(file.rows for file in written)) != rows:
        raise OutputMismatch(f"{day} would get {found} rows instead of {rows}. Nothing was changed; run again.")
    storage.sync(settings.storage_url, [file.path for file in written])
    before = table.version()
    table.create_write_transaction(
        [file.action(day) for file in written],
        mode="overwrite",
        schema=SCHEMA,  # the table's from now on: a new column comes with the first day that is written with it
        partition_by=["day"],
        partition_filters=[("day", "=", str(day))],
        # Of a day without files nothing is removed, by which Delta knows who was second: no other commit may be first.
        commit_properties=None if there else CommitProperties(max_commit_retries=0),
    )
    table = DeltaTable(_location(settings), storage_options=_options(settings))
    log = _root(settings) / "_delta_log"
    commits = [str(log / f"{version:020}.json") for version in range(before + 1, table.version() + 1)]
    storage.sync(settings.storage_url, commits)
    if (found := _rows(table, settings, day)) != rows:
        raise OutputMismatch(f"The table has {found} rows of {day} instead of {rows}. Run again.")
    return rows


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file that was written for the table, with what its log will say of it."""

    path: str
    bytes: int
    rows: int
    statistics: dict[str, Any]

    def action(self, day: date) -> AddAction:
        name = self.path.rsplit("/", 1)[-1]
        return AddAction(
            path=f"day={day}/{name}",
            size=self.bytes,
            partition_values={"day": str(day)},
            modification_time=time.time_ns() // 1_000_000,
            data_change=True,
            stats=json.dumps({"numRecords": self.rows, **self.statistics}),
        )


def _written(settings: Settings, day: date, batches: Iterable[pa.RecordBatch]) -> Iterator[_File]:
    """Write the rows as files of the day, which nothing knows until the table's commit names them."""
    groups = _groups(batches)
    group = next(groups, None)
    while group is not None:
        path = _root(settings) / f"day={day}" / f"{uuid4()}.zstd.parquet"
        storage.make_parent(path)
        rows, bounds = 0, []
        with path.open("wb") as stream, pq.ParquetWriter(stream, group.schema, compression="zstd") as writer:
            while group is not None and stream.tell() < TARGET_BYTES:
                writer.write_table(group)
                rows += group.num_rows
                bounds += pc.min_max(group[STATISTICS]).as_py().values()
                group = next(groups, None)
        yield _File(
            path=str(path),
            bytes=path.stat().st_size,
            rows=rows,
            statistics={
                "minValues": {STATISTICS: _spelled(min(bounds))},
                "maxValues": {STATISTICS: _spelled(max(bounds))},
                "nullCount": {STATISTICS: 0},
            },
        )


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Row groups, without the day, which the folder's name says."""
    gathered: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows:
            gathered.append(batch)
        if sum(one.num_rows for one in gathered) >= GROUP_ROWS:
            yield pa.Table.from_batches(gathered).drop_columns("day")
            gathered = []
    if gathered:
        yield pa.Table.from_batches(gathered).drop_columns("day")


def _spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _root(settings: Settings) -> ObjectStoragePath:
    return storage.at(settings.storage_url, "published", "events")


def _files(table: DeltaTable, settings: Settings, day: date) -> list[tuple[str, int]]:
    """Path and rows of each file of a day, as the table's log says."""
    root = _root(settings)
    found = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return [(str(root / file["path"]), file["num_records"]) for file in found if file["partition.day"] == day]


def _rows(table: DeltaTable, settings: Settings, day: date) -> int:
    return sum(rows for _, rows in _files(table, settings, day))


def _days(table: DeltaTable | None) -> list[date]:
    return sorted({date.fromisoformat(part["day"]) for part in table.partitions()}) if table else []


def _delete(table: DeltaTable | None, days: Iterable[date]) -> None:
    if table is not None and (listed := ", ".join(f"'{day}'" for day in sorted(days))):
        table.delete(f"day IN ({listed})")


def _vacuum(table: DeltaTable, settings: Settings, outcome: Outcome, *, dry_run: bool) -> None:
    """Remove files that no version within the grace needs, and of the log what is older than its own period."""
    grace = settings.retention.grace_hours
    remove = partial(table.vacuum, grace, enforce_retention_duration=False, full=True)
    unneeded = remove(dry_run=True)
    outcome.bytes += sum(_size(_root(settings) / path) for path in unneeded)
    outcome.lines.append(
        f"{len(unneeded):,} files that no day has needed for {grace} hours {'would be' if dry_run else 'were'} removed."
    )
    if not dry_run:
        remove(dry_run=False)
        table.cleanup_metadata()
        for folder in storage.listed(_root(settings)):
            storage.remove_if_empty(folder)


def _size(path: ObjectStoragePath) -> int:
    try:
        return int(path.stat().st_size)
    except FileNotFoundError:
        return 0


def _open(settings: Settings) -> DeltaTable | None:
    location, options = _location(settings), _options(settings)
    if not DeltaTable.is_deltatable(location, options):
        return None
    return DeltaTable(location, storage_options=options)


def _create(settings: Settings) -> DeltaTable:
    return DeltaTable.create(
        _location(settings),
        SCHEMA,
        mode="ignore",
        partition_by=["day"],
        name="events",
        description="Accepted clickstream events of closed UTC days",
        configuration=CONFIGURATION,
        storage_options=_options(settings),
    )


def _location(settings: Settings) -> str:
    url = table_url(settings)
    return Path(url.removeprefix(storage.LOCAL)).as_uri() if url.startswith(storage.LOCAL) else url


def _options(settings: Settings) -> dict[str, str]:
    """How delta-rs reaches the storage: on S3 with what boto3 finds, on a local disk nothing is needed."""
    if settings.storage_url.startswith(storage.LOCAL):
        return {}
    session = boto3.Session()
    found = {"conditional_put": "etag"}  # a version is made only where there is none: two writers can't both
    if region := session.region_name or os.environ.get("AWS_REGION"):
        found["aws_region"] = region
    if credentials := session.get_credentials():
        frozen = credentials.get_frozen_credentials()
        found |= {"aws_access_key_id": frozen.access_key, "aws_secret_access_key": frozen.secret_key}
        if frozen.token:
            found["aws_session_token"] = frozen.token
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        found |= {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
    return found
