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
from clickstream.ledger import publishing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from psycopg import Connection

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
        publishing.replace_windows(
            conn, batch_id, _rows(report["tables"][publishing.TRAFFIC.name], publishing.TRAFFIC.columns)
        )
        publishing.check_hours(conn, report["hours"])
        completed = publishing.complete_windows(conn)
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


def _rows(files: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for file in files:
        with ObjectStoragePath(file["path"]).open("rb") as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=list(columns)):
                yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def _samples(files: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    taken: Counter[str] = Counter()
    reason = SAMPLE_COLUMNS.index("reason")
    for row in _rows(files, SAMPLE_COLUMNS):
        taken[row[reason]] += 1
        if taken[row[reason]] <= SAMPLES_PER_REASON:
            yield row
