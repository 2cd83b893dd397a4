"""Builders of events, raw files and specs for the transformation's tests."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clickstream_transform.protocol import HourFile, Output, Report, Segment, Settings, Spec

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SETTINGS = Settings(allowed_lateness_seconds=86_400, max_future_seconds=300, window_minutes=(5, 60))
RAW_SCHEMA = pa.schema(
    [
        ("topic_id", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("timestamp_type", pa.int8()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ]
)


def document(**changes: Any) -> dict[str, Any]:
    """Return a valid event as a JSON object; a change to None removes the field."""
    fields = {
        "eventId": "event-1",
        "userId": "user-1",
        "sessionId": "session-1",
        "device": "mobile",
        "region": "eu-west-1",
        "producerId": "producer-1",
        "eventType": "PAGE_VIEW",
        "eventTime": "2026-11-22T12:00:00Z",
        "page": "/home",
        "sequence": 0,
        "schemaVersion": 1,
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def value(**changes: Any) -> bytes:
    """Return a valid event's JSON text."""
    return json.dumps(document(**changes)).encode()


def at(moment: datetime) -> str:
    """Return a time as an event spells it."""
    return moment.isoformat().replace("+00:00", "Z")


def url(path: Path) -> str:
    """Return a local path as the app's specs spell it: not percent-encoded."""
    return f"file://{path}"


def local(file_url: str) -> Path:
    """Return the path of a local file's URL."""
    return Path(file_url.removeprefix("file://"))


@dataclass(frozen=True)
class Record:
    """A landed Kafka record; its partition and offset come from where it is put."""

    value: bytes | None
    timestamp: datetime = NOON + timedelta(seconds=1)
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass
class Lake:
    """A storage root with raw segments, from which specs are made."""

    root: Path
    attempts: int = 0
    raw_files: int = 0

    def segment(
        self,
        records: Iterable[Record | bytes | None],
        *,
        topic_id: str = "topic-1",
        partition: int = 0,
        first_offset: int = 0,
    ) -> Segment:
        """Write records as one raw segment."""
        rows = [one if isinstance(one, Record) else Record(one) for one in records]
        columns = {
            "topic_id": [topic_id] * len(rows),
            "partition": [partition] * len(rows),
            "offset": range(first_offset, first_offset + len(rows)),
            "timestamp": [row.timestamp for row in rows],
            "timestamp_type": [1] * len(rows),
            "key": [None] * len(rows),
            "value": [row.value for row in rows],
            "headers": [[{"key": key, "value": mark} for key, mark in row.headers] for row in rows],
        }
        self.raw_files += 1
        path = self.root / "raw" / f"partition={partition}" / f"{self.raw_files}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, schema=RAW_SCHEMA), path, compression="zstd")
        return Segment(
            topic_id=topic_id,
            partition=partition,
            first_offset=first_offset,
            end_offset=first_offset + len(rows),
            records=len(rows),
            path=url(path),
        )

    def spec(
        self,
        *segments: Segment,
        event_files: Iterable[HourFile] = (),
        retired_hours: tuple[str, ...] = (),
        settings: Settings = SETTINGS,
    ) -> Spec:
        """Return a spec with output folders of its own."""
        self.attempts += 1
        folder = url(self.root / "attempts" / str(self.attempts))
        return Spec(
            batch_id=1,
            attempt_id=f"attempt-{self.attempts}",
            settings=settings,
            segments=segments,
            retired_hours=retired_hours,
            event_files=tuple(event_files),
            output=Output(
                events=f"{folder}/events",
                rejected=f"{folder}/rejected",
                tables=f"{folder}/tables",
                report=f"{folder}/report.json",
            ),
        )


def live(*reports: Report) -> list[HourFile]:
    """Return the event files of reports as a later spec's manifest lists them."""
    return [
        HourFile(hour=file.hour, path=file.path, records=file.records)
        for report in reports
        for file in report.event_files
    ]


def rows(files: Iterable[Any]) -> list[dict[str, Any]]:
    """Return all rows of written files."""
    return [row for file in files for row in pq.ParquetFile(local(file.path)).read().to_pylist()]
