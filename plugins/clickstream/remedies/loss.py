"""Declare offsets lost, so that their partition goes on and the loss stays on record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition

from clickstream import broker
from clickstream.drain.plan import condition
from clickstream.errors import (
    OffsetsExpired,
    PartitionStopped,
    ProducerTimestamps,
    RemedyRefused,
    TopicRecreated,
)
from clickstream.ledger import drains
from clickstream.ledger.drains import Progress, Range

if TYPE_CHECKING:
    from psycopg import Connection

    from clickstream.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Offsets that are gone.

    Attributes:
        range: The offsets; empty where a recreated topic had nothing left to land.
        kind: The condition, as in `ledger.partitions.stopped`.
        close: Whether the incarnation of the topic is gone with them.
    """

    range: Range
    kind: str
    close: bool = False

    def __str__(self) -> str:
        """One line for the log."""
        lost = self.range.end_offset - self.range.first_offset
        closing = ", and this incarnation of the topic is closed" if self.close else ""
        return (
            f"{self.range.topic}/{self.range.partition} (topic_id {self.range.topic_id}) {self.kind}: offsets"
            f" {self.range.first_offset} to {self.range.end_offset} (exclusive), {lost} in all{closing}"
        )


def losses(conn: Connection[Any], settings: Settings, partition: int | None) -> list[Loss]:
    """What is lost at this moment, from a new look at the log.

    Args:
        conn: Connection of the writer.
        settings: The settings in force.
        partition: Only this one; None for all that are stopped.

    Raises:
        RemedyRefused: If nothing is lost, or a stop has another remedy.
    """
    known = drains.progress(conn, settings.topic)
    state = broker.describe(settings)
    found, refused = [], []
    for row in known:
        if partition is None or row.partition == partition:
            try:
                loss = _loss(row, condition(row, state), state, settings)
            except RemedyRefused as error:
                refused.append(str(error))
            else:
                found += [loss] if loss else []
    if refused and not found:
        raise RemedyRefused("\n".join(refused))
    if not found:
        where = "any partition" if partition is None else f"partition {partition}"
        raise RemedyRefused(
            f"Nothing is lost in {where} of {settings.topic}: the log still holds every offset that is to be landed."
        )
    return found


def _loss(row: Progress, error: PartitionStopped | None, state: broker.TopicState, settings: Settings) -> Loss | None:
    end, close = None, False
    if isinstance(error, OffsetsExpired):
        end = state.starts[row.partition]
    elif isinstance(error, TopicRecreated):
        end, close = max(row.next_offset, row.log_end_offset), True
    elif error is not None:
        raise RemedyRefused(f"A declared loss can't help here. {error}")
    elif row.stopped == ProducerTimestamps.kind:
        end = _first_with_broker_time(row, state.ends[row.partition], settings)
    if end is None:
        return None
    lost = Range(
        topic=row.topic,
        topic_id=row.topic_id,
        partition=row.partition,
        first_offset=row.next_offset,
        end_offset=end,
    )
    return Loss(range=lost, kind=error.kind if error else ProducerTimestamps.kind, close=close)


def _first_with_broker_time(row: Progress, end: int, settings: Settings) -> int:
    at = TopicPartition(row.topic, row.partition)
    with broker.consumer_of(settings) as consumer:
        consumer.assign([at])
        consumer.seek(at, row.next_offset)
        deadline = time.monotonic() + broker.SILENCE_SECONDS
        while consumer.position(at) < end:
            if time.monotonic() > deadline:
                raise RemedyRefused(f"{row.topic}/{row.partition} can't be read at present; try again.")
            for record in consumer.poll(timeout_ms=1000).get(at, []):
                if record.timestamp_type == broker.LOG_APPEND_TIME:
                    return int(record.offset)
    return end


def declare(conn: Connection[Any], found: list[Loss], *, reason: str, dag_run_id: str) -> None:
    """Write the losses down and let the partitions go on.

    Raises:
        RemedyRefused: If no reason is given.
        StaleAttempt: If a partition has moved since `losses`; those before it in the list are declared.
    """
    if not reason.strip():
        raise RemedyRefused("No reason is given. Say why these offsets are gone, for those who ask later.")
    for loss in found:
        drains.declare_lost(conn, loss.range, kind=loss.kind, reason=reason, dag_run_id=dag_run_id, close=loss.close)
