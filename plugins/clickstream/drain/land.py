"""Land bounded ranges: records of the log, verbatim, into Parquet files of the raw zone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from clickstream import broker, storage
from clickstream.erasure import key
from clickstream.errors import PartitionStopped, TopicRecreated
from clickstream.ledger import drains, erasures
from clickstream.ledger.drains import Landing, Range

if TYPE_CHECKING:
    from types import TracebackType
    from uuid import UUID

    from airflow.sdk import ObjectStoragePath
    from kafka import KafkaConsumer
    from psycopg import Connection

    from clickstream.erasure.mapping import Tokens
    from clickstream.settings import Settings

log = logging.getLogger(__name__)

RAW_SCHEMA = pa.schema(
    [
        pa.field("topic_id", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("timestamp_type", pa.int8(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])), nullable=False),
    ]
)
ROW_GROUP_BYTES = 16 << 20
LANDING_BYTES = 512 << 20
ROW_GROUP_RECORDS = 50_000
HISTORIC = ("clickstream-load", b"historic")


def land(conn: Connection[Any], settings: Settings, drain_id: int, dag_run_id: str) -> UUID | None:
    """Land the ranges of a drain that are still to be landed, as a new attempt.

    A partition that turns out to be stopped is marked so; what is before the stop is landed, and the others go on.
    Who is on the erasure list is landed as the list says.

    Returns:
        The attempt, whose landings are reported to the ledger; None where the ranges were landed before.

    Raises:
        SettingsError: If there is an erasure list but not its key. Nothing was read.
    """
    ranges = drains.open_ranges(conn, drain_id)
    if not ranges:
        return None
    listed, erased = erasures.read(conn)
    tokens = key.tokens(settings, listed) if listed else None
    attempt_id = drains.register_attempt(conn, drain_id, dag_run_id, erasures_seen=erased)
    landings = []
    with broker.consumer_of(settings) as consumer, broker.admin_of(settings) as admin:
        for planned in ranges:
            landing, stop = _land_range(consumer, settings, planned, attempt_id, tokens)
            if stop is not None:
                log.error("%s", stop)
                drains.stop(conn, planned.topic_id, planned.partition, stop)
            if landing.end_offset > landing.first_offset:
                landings.append(landing)
            log.info(
                "%s/%s [%s, %s): %s records, %s absent offsets, %s bytes",
                planned.topic, planned.partition, landing.first_offset, landing.end_offset,
                landing.records, landing.absent, landing.bytes,
            )  # fmt: skip
        # The consumer reads on in a recreated topic without a word, so its id is compared after the last read.
        topic_id = broker.topic_id_of(admin, settings.topic)
    gone = [r for r in ranges if r.topic_id != topic_id]
    for planned in gone:
        drains.stop(
            conn,
            planned.topic_id,
            planned.partition,
            TopicRecreated(
                f"{planned.topic}/{planned.partition}: the topic was created again (topic_id {topic_id}) while it was"
                " read. Run declare_loss (dry run first).",
                offset=planned.first_offset,
            ),
        )
    kept = [landing for landing in landings if landing.topic_id == topic_id]
    storage.sync(settings.storage_url, [landing.path for landing in kept if landing.path])
    drains.report_landings(conn, attempt_id, kept)
    return attempt_id


def raw_path(settings: Settings, planned: Range, attempt_id: UUID) -> ObjectStoragePath:
    """Where an attempt lands a range: a folder of its own below the topic and partition."""
    return storage.at(
        settings.storage_url,
        "raw",
        planned.topic,
        f"partition={planned.partition}",
        str(attempt_id),
        f"{planned.first_offset}-{planned.end_offset}.parquet",
    )


def _land_range(
    consumer: KafkaConsumer, settings: Settings, planned: Range, attempt_id: UUID, tokens: Tokens | None
) -> tuple[Landing, PartitionStopped | None]:
    """Land a range as far as it goes: to its end, to what stops the partition, or to the limit of a file's size."""
    path = raw_path(settings, planned, attempt_id)
    reader = broker.RangeReader(consumer, planned.topic, planned.partition, planned.first_offset, planned.end_offset)
    stop = None
    with SegmentFile(path, planned.topic_id, planned.partition) as segment:
        try:
            for records in reader:
                segment.write(records if tokens is None else [_without_erased(record, tokens) for record in records])
                if segment.bytes_taken >= LANDING_BYTES:
                    break
        except PartitionStopped as error:
            stop = error
    landing = Landing(
        topic_id=planned.topic_id,
        partition=planned.partition,
        first_offset=planned.first_offset,
        end_offset=reader.next_offset,
        records=segment.records,
        absent=reader.absent,
        historic=segment.historic,
        first_record_at=segment.first_record_at,
        last_record_at=segment.last_record_at,
        path=str(path) if segment.records else None,
        bytes=path.stat().st_size if segment.records else None,
    )
    return landing, stop


def _without_erased(record: Any, tokens: Tokens) -> Any:  # noqa: ANN401 - a ConsumerRecord, which has no types
    key, value = tokens.record(record.key, record.value)
    return record if key is record.key and value is record.value else record._replace(key=key, value=value)


class SegmentFile:
    """A Parquet file of verbatim records, streamed in row groups of bounded size.

    Nothing is created before the first record.

    Attributes:
        records: Records written.
        bytes_taken: Size of keys, values and headers taken so far, before compression.
        historic: Those with the header that marks a deliberate load of old data.
        first_record_at: Least record timestamp.
        last_record_at: Greatest record timestamp.
    """

    def __init__(self, path: ObjectStoragePath, topic_id: str, partition: int) -> None:
        self._path = path
        self._constants = (topic_id, partition)
        self._buffer: list[Any] = []
        self._buffered_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._stream: Any = None
        self.records = 0
        self.bytes_taken = 0
        self.historic = 0
        self.first_record_at: datetime | None = None
        self.last_record_at: datetime | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is buffered and the footer; after an error just close."""
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._stream.close()

    def write(self, records: list[Any]) -> None:
        """Append ConsumerRecords in order of their offsets."""
        for record in records:
            self._buffer.append(record)
            headers = sum(len(key) + len(value or b"") for key, value in record.headers)
            size = len(record.value or b"") + len(record.key or b"") + headers + 64
            self._buffered_bytes += size
            self.bytes_taken += size
            if self._buffered_bytes >= ROW_GROUP_BYTES or len(self._buffer) >= ROW_GROUP_RECORDS:
                self._flush()

    def _flush(self) -> None:
        if not self._buffer:
            return
        if self._writer is None:
            storage.make_parent(self._path)
            self._stream = self._path.open("wb")
            self._writer = pq.ParquetWriter(self._stream, RAW_SCHEMA, compression="zstd")
        records, self._buffer, self._buffered_bytes = self._buffer, [], 0
        self.records += len(records)
        self.historic += sum(HISTORIC in record.headers for record in records)
        times = [record.timestamp for record in records]
        known = [moment for moment in (self.first_record_at, self.last_record_at) if moment is not None]
        self.first_record_at = min([*known, _utc(min(times))])
        self.last_record_at = max([*known, _utc(max(times))])
        topic_id, partition = self._constants
        columns = [
            [topic_id] * len(records),
            [partition] * len(records),
            [record.offset for record in records],
            times,
            [record.timestamp_type for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [[{"key": key, "value": value} for key, value in record.headers] for record in records],
        ]
        self._writer.write_table(
            pa.table(
                [pa.array(values, field.type) for values, field in zip(columns, RAW_SCHEMA, strict=True)],
                RAW_SCHEMA,
            )
        )


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
