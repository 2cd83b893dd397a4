"""What stops a partition, and the way out."""

from __future__ import annotations

from kafka import TopicPartition

from clickstream import broker
from clickstream.remedies import loss
from tests.kit.pipeline import RUN, Pipeline


def expire(pipeline: Pipeline, partition: int, before: int) -> None:
    """What retention does: delete the records of a partition before an offset."""
    with broker.admin_of(pipeline.settings) as admin:
        admin.delete_records({TopicPartition(pipeline.settings.topic, partition): before})


def declare(pipeline: Pipeline, partition: int | None = None) -> list[loss.Loss]:
    found = loss.losses(pipeline.conn, pipeline.settings, partition)
    loss.declare(pipeline.conn, found, reason="test", dag_run_id=RUN)
    return found


def stopped(pipeline: Pipeline) -> dict[int, str]:
    return dict(
        pipeline.conn.execute(
            "SELECT partition, stopped FROM ledger.partitions WHERE stopped IS NOT NULL AND closed_at IS NULL"
        ).fetchall()
    )
