"""A batch that two attempts have transformed and none has published; no Kafka is needed for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import UUID

from clickstream.aggregate import attempt
from tests.kit.events import event_record
from tests.kit.pipeline import Pipeline

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.oracle import Record

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SEGMENT = 25


def records_of(numbers: range, *, first_offset: int = 0) -> list[list[Record]]:
    """Records of events by their numbers, alternately in two partitions, whose logs begin at the offset."""
    partitions: list[list[Record]] = [[], []]
    for number in numbers:
        log = partitions[number % 2]
        made = event_record(
            first_offset + len(log),
            NOON - timedelta(seconds=number),
            landed_at=NOON + timedelta(minutes=10),
            eventId=f"e{number}",
            userId=f"u{number % 7}",
            sessionId=f"s{number % 11}",
        )
        log.append(replace(made, partition=number % 2))
    return partitions


@dataclass(frozen=True)
class OpenBatch:
    """A pipeline in whose one batch 180 events and 20 duplicates are, in eight segments.

    Attributes:
        pipeline: The pipeline.
        records: All that it has landed.
        batch_id: The batch.
        older: The attempt before the newest, which is dead since that began.
        newer: The attempt that may publish.
    """

    pipeline: Pipeline
    records: list[Record]
    batch_id: int
    older: UUID
    newer: UUID

    @classmethod
    def on(cls, pipeline: Pipeline, spark: SparkSession) -> Self:
        """Land, claim and transform on an empty pipeline."""
        records: list[Record] = []
        for fresh, again in zip(records_of(range(180)), records_of(range(20), first_offset=90), strict=True):
            log = [*fresh, *again]
            records += log
            for first in range(0, len(log), SEGMENT):
                pipeline.land_records(log[first : first + SEGMENT])
        batch_id = pipeline.claim()
        assert batch_id is not None
        older, newer = pipeline.begin(batch_id), pipeline.begin(batch_id)
        for attempt_id in (older, newer):
            pipeline.transform(spark, attempt_id)
        return cls(pipeline, records, batch_id, older, newer)

    @property
    def home(self) -> Path:
        """The folder of the newer attempt's spec, report and tables."""
        return Path(attempt.folder(self.pipeline.settings, self.newer).path)

    def finish(self, spark: SparkSession) -> None:
        """The next runs of the aggregation, and the proof."""
        self.pipeline.aggregate_all(spark)
        assert self.pipeline.dispositions() == {"accepted": 180, "duplicate": 20}
        self.pipeline.assert_equals_oracle(self.records)
