"""Which offsets to land next, and which partitions can't go on."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from clickstream import broker
from clickstream.errors import LogTruncated, PartitionsStopped, ProducerTimestamps, TopicRecreated
from clickstream.ledger import drains
from clickstream.ledger.drains import Progress, Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from clickstream.errors import PartitionStopped
    from clickstream.settings import Settings


def plan(conn: Connection[Any], settings: Settings, dag_run_id: str) -> list[int]:
    """Compare the ledger with the log and give out bounded ranges.

    A stopped partition is marked so in the ledger and left out.

    Returns:
        The ids of the drains, one a group of partitions; none where nothing is to be landed.
    """
    # The ledger first: what the log says afterwards can't be older than what is compared with it.
    known = drains.progress(conn, settings.topic)
    state = broker.describe(settings)
    with conn.transaction():
        if all(row.topic_id == state.topic_id for row in known):
            known = [*known, *_adopt_new_partitions(conn, state, known)]
        ranges = []
        for row in known:
            stop = condition(row, state)
            if isinstance(stop, TopicRecreated):
                drains.stop(conn, row.topic_id, row.partition, stop)
                continue
            end = state.ends[row.partition]
            drains.observe(
                conn,
                topic_id=row.topic_id,
                partition=row.partition,
                start=state.starts[row.partition],
                end=max(end, row.log_end_offset),
                settled=row.partition in state.settled,
                retention_seconds=state.retention_seconds,
                observed_at=state.observed_at,
                stop=stop,
            )
            if stop is None and row.next_offset < end:
                ranges.append(
                    Range(
                        topic=row.topic,
                        topic_id=row.topic_id,
                        partition=row.partition,
                        first_offset=row.next_offset,
                        end_offset=min(end, row.next_offset + settings.drain_max_offsets),
                    )
                )
        drains.bury_superseded_attempts(conn)
        return [drains.register_drain(conn, group, dag_run_id) for group in balanced(ranges, settings.drain_groups)]


def _adopt_new_partitions(conn: Connection[Any], state: broker.TopicState, known: Sequence[Progress]) -> list[Progress]:
    """Begin with partitions that have no row.

    The first topic ever begins where its log does. Whatever comes later begins at 0, so that records which retention
    has deleted before the first drain are seen to be lost.
    """
    first_ever = not drains.is_known(conn, state.topic)
    new = state.starts.keys() - {row.partition for row in known}
    for partition in sorted(new):
        drains.adopt(
            conn,
            topic=state.topic,
            topic_id=state.topic_id,
            partition=partition,
            first_offset=state.starts[partition] if first_ever else 0,
            observed_at=state.observed_at,
        )
    return [row for row in drains.progress(conn, state.topic) if row.partition in new]


def condition(row: Progress, state: broker.TopicState) -> PartitionStopped | None:
    """What stops a partition, if anything."""
    name = f"{row.topic}/{row.partition}"
    if row.topic_id != state.topic_id:
        return TopicRecreated(
            f"{name}: the topic was deleted and created again (topic_id {row.topic_id} is now {state.topic_id})."
            f" Records from offset {row.next_offset} on that were not landed are gone. Run declare_loss (dry run"
            " first) to close the old incarnation and begin with the new one; refill from the archive what was lost.",
            offset=row.next_offset,
        )
    if not state.log_append_time:
        return ProducerTimestamps(
            f"{name}: the topic's message.timestamp.type is CreateTime, so record timestamps are the producers', and"
            " lateness and retention can't be trusted. Set it to LogAppendTime; records written meanwhile stop the"
            " partition until declare_loss.",
            offset=row.next_offset,
        )
    if state.starts[row.partition] > row.next_offset:
        return broker.expired(name, row.next_offset, state.starts[row.partition])
    seen = max(row.next_offset, row.log_end_offset)
    if state.ends[row.partition] < seen or row.stopped == LogTruncated.kind:
        # Once cut, the log may grow past what was seen, with other records at the same offsets.
        return broker.truncated(name, seen, state.ends[row.partition])
    return None


def balanced(ranges: Sequence[Range], groups: int) -> list[list[Range]]:
    """At most `groups` non-empty groups of about the same number of offsets (longest range first)."""
    heap: list[tuple[int, int, list[Range]]] = [(0, number, []) for number in range(min(groups, len(ranges)))]
    for item in sorted(ranges, key=lambda r: r.first_offset - r.end_offset):
        offsets, number, group = heapq.heappop(heap)
        group.append(item)
        heapq.heappush(heap, (offsets + item.end_offset - item.first_offset, number, group))
    return [group for _, _, group in sorted(heap, key=lambda entry: entry[1])]


def report_stops(conn: Connection[Any], settings: Settings) -> None:
    """Fail loudly if a partition is stopped.

    Raises:
        PartitionsStopped: With each one's reason and remedy.
    """
    stopped = drains.stops(conn, settings.topic)
    if stopped:
        listing = "\n".join(f"- [{s.stopped}] {s.stopped_reason}" for s in stopped)
        raise PartitionsStopped(f"{len(stopped)} partitions are stopped; the others go on.\n{listing}")
