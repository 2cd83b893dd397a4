"""Publish an attempt: check what Spark wrote, then make it the truth in one transaction."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from airflow.sdk import ObjectStoragePath

from clickstream import storage
from clickstream.aggregate import attempt as attempts
from clickstream.errors import OutputMismatch
from clickstream.ledger import publishing, sessions, staging, windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from psycopg import Connection
    from pyarrow import RecordBatch

    from clickstream.settings import Settings

log = logging.getLogger(__name__)

SAMPLES_PER_REASON = 1_000
SAMPLE_COLUMNS = ["topic_id", "partition", "offset", "record_time", "reason", "detail", "excerpt"]


def publish(conn: Connection[Any], settings: Settings, attempt_id: UUID) -> bool:
    """Publish the results of an attempt.

    Returns:
        Whether it was published now; False where this very attempt had been before.

    Raises:
        StaleAttempt: If the batch isn't open or a newer attempt exists.
        StaleBase: If the events it read were changed meanwhile.
        ConservationBroken: If an equation would not hold.
        OutputMismatch: If a file isn't as reported.
    """
    home = attempts.folder(settings, attempt_id)
    spec = storage.read_json(home / "spec.json")
    report = storage.read_json(home / "report.json")
    if report["attempt_id"] != str(attempt_id):
        raise OutputMismatch(f"{home}/report.json is of attempt {report['attempt_id']}. Run the attempt again.")
    files = _written(report)
    storage.sync(settings.storage_url, [file.path for file in files])
    base: dict[str, set[str]] = {}
    for file in spec["event_files"]:
        base.setdefault(file["hour"], set()).add(file["path"])
    with conn.transaction():
        batch_id = publishing.record_counts(conn, attempt_id, counts_of(report))
        if batch_id is None:
            log.info("Attempt %s is published already", attempt_id)
            return False
        publishing.lock_analytics(conn)
        publishing.check_base(conn, report["hours"], base, set(spec["retired_hours"]))
        storage.verify(files)
        publishing.add_event_files(
            conn,
            batch_id,
            [(f["path"], f["hour"], f["records"], f["bytes"]) for f in report["event_files"]],
        )
        publishing.add_rejections(conn, batch_id, report["reasons"], _samples(report["rejected_files"]))
        _publish_tables(conn, batch_id, report["tables"], spec["settings"]["window_minutes"])
        publishing.check_hours(conn, report["hours"])
        completed = windows.complete_windows(conn)
    log.info("Batch %s is published: %s; %s windows became complete", batch_id, counts_of(report), completed)
    return True


def counts_of(report: Mapping[str, Any]) -> publishing.Counts:
    """The dispositions in a report.

    Raises:
        OutputMismatch: If accepted or rejected are not the rows of the files that hold them.
    """
    for name, files in (("accepted", "event_files"), ("rejected", "rejected_files")):
        rows = sum(file["records"] for file in report[files])
        if rows != report[name]:
            raise OutputMismatch(f"The report counts {report[name]} {name} records, its files hold {rows}.")
    if sum(report["reasons"].values()) != report["rejected"]:
        raise OutputMismatch(f"The report's reasons {report['reasons']} don't add up to {report['rejected']} rejected.")
    return publishing.Counts(**{name: report[name] for name in publishing.Counts.__dataclass_fields__})


def _written(report: Mapping[str, Any]) -> list[storage.WrittenFile]:
    listed = [
        *report["event_files"],
        *report["rejected_files"],
        *(f for t in report["tables"].values() for f in t),
    ]
    return [storage.WrittenFile(f["path"], f["records"], f["bytes"]) for f in listed]


def _publish_tables(
    conn: Connection[Any], batch_id: int, tables: Mapping[str, Sequence[Mapping[str, Any]]], window_minutes: list[int]
) -> None:
    """Publish all of Spark's tables; those that begin with a window's key are replaced by window."""
    if not tables[windows.TRAFFIC]:
        return
    staged = {name: _stage(conn, name, files) for name, files in tables.items()}
    traffic = staged.pop(windows.TRAFFIC)
    hours, users = staged.pop("session_hours"), staged.pop("users_by_hour")
    windows.replace_windows(conn, batch_id, traffic, staged.values())
    sessions.replace_session_hours(conn, hours, window_minutes)
    sessions.add_users(conn, users)


def _stage(conn: Connection[Any], name: str, files: Sequence[Mapping[str, Any]]) -> staging.Staged:
    if not files:
        raise OutputMismatch(f"The report names no file of {name}, not even an empty one. Run the attempt again.")
    with ObjectStoragePath(files[0]["path"]).open("rb") as stream:
        columns = pq.ParquetFile(stream).schema_arrow.names
    return staging.stage(conn, name, columns, _batches(files, columns))


def _batches(files: Sequence[Mapping[str, Any]], columns: list[str]) -> Iterator[RecordBatch]:
    for file in files:
        with ObjectStoragePath(file["path"]).open("rb") as stream:
            yield from pq.ParquetFile(stream).iter_batches(columns=columns)


def _samples(files: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    taken: Counter[str] = Counter()
    reason = SAMPLE_COLUMNS.index("reason")
    for batch in _batches(files, SAMPLE_COLUMNS):
        for row in zip(*(batch.column(name).to_pylist() for name in SAMPLE_COLUMNS), strict=True):
            taken[row[reason]] += 1
            if taken[row[reason]] <= SAMPLES_PER_REASON:
                yield row
