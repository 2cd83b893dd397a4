"""What Kafka says: the state of the topic, and the records of one bounded range."""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    CorruptRecordError,
    LogTruncationError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
)
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import OffsetAndMetadata

from clickstream.broker_access import connection_options, refusals_explained
from clickstream.errors import (
    BrokerSilent,
    ClickstreamError,
    LogTruncated,
    OffsetsExpired,
    PartitionStopped,
    ProducerTimestamps,
    RecordUnreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from clickstream.settings import Settings

# The client tells of every connection, several a task.
logging.getLogger("kafka").setLevel(logging.WARNING)

GROUP = "clickstream-drain"
LOG_APPEND_TIME = 1
TOPIC_CONFIGS = ("message.timestamp.type", "retention.ms")  # what a plan needs to know
SILENCE_SECONDS = 60.0
LARGEST_RECORD_BYTES = 2 << 20  # the topic's max.message.bytes


@dataclass(frozen=True, kw_only=True)
class TopicState:
    """A topic at one moment.

    Attributes:
        topic: Its name.
        topic_id: Kafka's id of this incarnation; a recreated topic has another.
        log_append_time: Whether the broker sets the record timestamps.
        retention_seconds: How long the broker keeps a record; infinite where it keeps all.
        starts: Start of the log by partition.
        ends: Last stable offset by partition: the end for a reader of committed records.
        settled: The partitions without an open transaction, where no older record can still appear.
        observed_at: UTC time taken before the ends were asked for.
    """

    topic: str
    topic_id: str
    log_append_time: bool
    retention_seconds: float
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    settled: AbstractSet[int]
    observed_at: datetime


@contextmanager
def consumer_of(settings: Settings) -> Iterator[KafkaConsumer]:
    """A consumer that is assigned by hand, commits nothing and never skips an expired offset."""
    with refusals_explained(settings):
        consumer = KafkaConsumer(
            **connection_options(settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            fetch_max_bytes=16 << 20,
            max_partition_fetch_bytes=4 << 20,
            max_poll_records=5_000,
            metrics_enabled=False,
        )
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def admin_of(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client of the brokers in the settings."""
    with refusals_explained(settings):
        admin = KafkaAdminClient(**connection_options(settings))
    try:
        yield admin
    finally:
        admin.close()


@contextmanager
def producer_of(settings: Settings) -> Iterator[KafkaProducer]:
    """An idempotent producer whose records all in-sync replicas acknowledge; its buffer has no bound."""
    with refusals_explained(settings):
        producer = KafkaProducer(
            **connection_options(settings),
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            compression_type="zstd",
            linger_ms=10,
            max_request_size=LARGEST_RECORD_BYTES,
        )
    try:
        yield producer
    finally:
        producer.close()


def topic_id_of(admin: KafkaAdminClient, topic: str) -> str:
    """Kafka's id of the topic's present incarnation."""
    return str(described(admin, topic)["topic_id"])


def describe(settings: Settings) -> TopicState:
    """The state of the settings' topic.

    Raises:
        ClickstreamError: If the topic does not exist.
    """
    topic = settings.topic
    with admin_of(settings) as admin:
        details = described(admin, topic)
        configs = admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(TOPIC_CONFIGS))],
            config_filter="all",
        )["topic"][topic]
        partitions = [TopicPartition(topic, entry["partition_index"]) for entry in details["partitions"]]
        observed_at = datetime.now(UTC)
        highest = _offsets(admin, partitions, OffsetSpec.LATEST, IsolationLevel.READ_UNCOMMITTED)
        ends = _offsets(admin, partitions, OffsetSpec.LATEST, IsolationLevel.READ_COMMITTED)
        starts = _offsets(admin, partitions, OffsetSpec.EARLIEST, IsolationLevel.READ_UNCOMMITTED)
    retention = int(configs["retention.ms"]["value"])
    return TopicState(
        topic=topic,
        topic_id=str(details["topic_id"]),
        log_append_time=configs["message.timestamp.type"]["value"] == "LogAppendTime",
        retention_seconds=retention / 1000 if retention >= 0 else math.inf,
        starts=starts,
        ends=ends,
        settled={partition for partition, end in ends.items() if end >= highest[partition]},
        observed_at=observed_at,
    )


def _offsets(
    admin: KafkaAdminClient, partitions: list[TopicPartition], which: OffsetSpec, isolation: IsolationLevel
) -> dict[int, int]:
    found = admin.list_partition_offsets(dict.fromkeys(partitions, which), isolation_level=isolation)
    return {at.partition: answer.offset for at, answer in found.items()}


def described(admin: KafkaAdminClient, topic: str) -> dict[str, Any]:
    """What Kafka says of the topic: topic_id, and of each partition its leader and replicas.

    Raises:
        ClickstreamError: If the topic does not exist.
    """
    try:
        [found] = admin.describe_topics([topic])
    except UnknownTopicOrPartitionError:
        found = {"error_code": UnknownTopicOrPartitionError.errno}
    if found["error_code"]:
        raise ClickstreamError(
            f"Kafka knows no topic {topic!r} (error code {found['error_code']}). Create it with"
            " message.timestamp.type=LogAppendTime, or correct CLICKSTREAM_TOPIC."
        )
    return dict(found)


def advise_group_offsets(settings: Settings, next_offsets: Mapping[int, int]) -> None:
    """Set the offsets of the group `clickstream-drain`, as advice for Kafka's own tools.

    The ledger never reads them back.
    """
    with admin_of(settings) as admin:
        admin.alter_group_offsets(
            GROUP,
            {TopicPartition(settings.topic, p): OffsetAndMetadata(o) for p, o in next_offsets.items()},
        )


class RangeReader:
    """The records of the offsets [first, end) of one partition, each gap confirmed by a second read.

    Kafka leaves offsets without a record behind (transaction markers, aborted transactions), so reading stops
    where the position reaches the end, never by counting.

    Attributes:
        absent: Offsets without a record that were confirmed so far.
        next_offset: The first offset that was not given out yet.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str, partition: int, first: int, end: int) -> None:
        self._consumer = consumer
        self._at = TopicPartition(topic, partition)
        self.next_offset = first
        self._end = end
        self._suspect: int | None = None
        self.absent = 0

    def __iter__(self) -> Iterator[list[Any]]:
        """Lists of consecutive ConsumerRecords, in order of their offsets.

        Raises:
            OffsetsExpired: If retention deleted offsets of the range.
            LogTruncated: If the log ends before the range.
            ProducerTimestamps: At the first record that doesn't carry the broker's time.
            RecordUnreadable: At a record that the client can't decode.
            BrokerSilent: If the broker sends nothing for a minute.
        """
        self._consumer.assign([self._at])
        self._consumer.seek(self._at, self.next_offset)
        deadline = time.monotonic() + SILENCE_SECONDS
        while self.next_offset < self._end:
            try:
                records = self._consumer.poll(timeout_ms=500).get(self._at, [])
                reached = records[-1].offset + 1 if records else self._consumer.position(self._at)
            except (OffsetOutOfRangeError, LogTruncationError):
                raise self._out_of_range() from None
            except (CorruptRecordError, UnsupportedCodecError) as error:
                raise RecordUnreadable(
                    f"{self._name} holds a record at or after offset {self.next_offset} that can't be read: {error!r}."
                    " Look at it with Kafka's dump tool. If it is not needed, delete the log up to behind it"
                    " (kafka-delete-records), then run declare_loss.",
                    offset=self.next_offset,
                ) from error
            run = self._consecutive(records, reached)
            if run:
                yield run
            if reached > self.next_offset or run:
                deadline = time.monotonic() + SILENCE_SECONDS
            elif time.monotonic() > deadline:
                raise BrokerSilent(
                    f"{self._name} sent nothing at offset {self.next_offset} for {SILENCE_SECONDS:.0f} s, though the"
                    f" range ends at {self._end}. Is the partition's leader up? The next drain tries again.",
                    offset=self.next_offset,
                )

    def _consecutive(self, records: list[Any], reached: int) -> list[Any]:
        """What can be used of a poll: all up to the range's end or the first gap not yet confirmed."""
        run: list[Any] = []
        for record in records:
            if record.offset >= self._end:
                break
            if record.offset > self.next_offset and not self._confirm(record.offset):
                return run
            if record.timestamp_type != LOG_APPEND_TIME:
                if run:
                    self._consumer.seek(self._at, record.offset)
                    return run
                raise ProducerTimestamps(
                    f"{self._name} holds a record with the producer's time at offset {record.offset}; lateness and"
                    " retention need the broker's. Set message.timestamp.type=LogAppendTime on the topic, then run"
                    " declare_loss for what was written with CreateTime.",
                    offset=record.offset,
                )
            run.append(record)
            self.next_offset = record.offset + 1
        if min(reached, self._end) > self.next_offset:
            self._confirm(min(reached, self._end))
        return run

    def _confirm(self, after: int) -> bool:
        """Whether the gap [next, after) was seen before; if not, go back to read it once more."""
        if self._suspect != self.next_offset:
            self._suspect = self.next_offset
            self._consumer.seek(self._at, self.next_offset)
            return False
        if self._consumer.beginning_offsets([self._at])[self._at] > self.next_offset:
            raise self._out_of_range()
        self.absent += after - self.next_offset
        self.next_offset = after
        return True

    def _out_of_range(self) -> PartitionStopped:
        start = self._consumer.beginning_offsets([self._at])[self._at]
        if start > self.next_offset:
            return expired(self._name, self.next_offset, start)
        return truncated(self._name, self.next_offset, self._consumer.end_offsets([self._at])[self._at])

    @property
    def _name(self) -> str:
        return f"{self._at.topic}/{self._at.partition}"


def expired(name: str, next_offset: int, log_start: int) -> OffsetsExpired:
    """The error for a partition whose log starts after the next offset to land."""
    return OffsetsExpired(
        f"{name}: offsets {next_offset} to {log_start} (exclusive) were deleted by Kafka before they were landed:"
        f" {log_start - next_offset} records are lost. Run declare_loss (dry run first) to write that down and go"
        " on; raise the topic's retention.ms if draining can't keep up.",
        offset=next_offset,
    )


def truncated(name: str, next_offset: int, log_end: int) -> LogTruncated:
    """The error for a partition whose log ends before offsets that were landed or seen."""
    return LogTruncated(
        f"{name}: the log ends at {log_end}, but offsets up to {next_offset} were landed or seen: the log was cut"
        " (unclean leader election, a restored volume), and Kafka would give the same offsets to other records."
        " Stop the producers, delete the topic and create it again, then run declare_loss to adopt it.",
        offset=next_offset,
    )
