"""The database is restored to an earlier point: nothing is counted twice, and what Kafka holds no more comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from clickstream.errors import StaleAttempt
from clickstream.remedies import refill
from tests import oracle
from tests.kit import erasing
from tests.kit.archive import archive, refill_as_told
from tests.kit.events import values
from tests.kit.pipeline import TABLES, Pipeline
from tests.kit.services import superuser
from tests.kit.stopped import declare, expire, stopped


@contextmanager
def restored_to_this_point(pipeline: Pipeline) -> Iterator[None]:
    """A copy of the database, which takes its place when the block ends."""
    database = pipeline.database
    pipeline.close()
    with superuser(pipeline.stack) as conn:
        conn.execute(f"CREATE DATABASE {database}_copy TEMPLATE {database}")
        pipeline.conn = pipeline.connect()
        yield
        pipeline.close()
        conn.execute(f"DROP DATABASE {database} WITH (FORCE)")
        conn.execute(f"CREATE DATABASE {database} OWNER clickstream_owner TEMPLATE {database}_copy")
        conn.execute(f"DROP DATABASE {database}_copy")
        pipeline.conn = pipeline.connect()


def files(pipeline: Pipeline) -> set[Path]:
    root = Path(pipeline.settings.storage_url.removeprefix("file://"))
    return {path for path in root.rglob("*") if path.is_file()}


def tables(pipeline: Pipeline) -> dict[str, oracle.Table]:
    return {name: pipeline.table(name) for name in TABLES}


def test_what_the_ledger_forgot_is_landed_again_and_counts_once(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.create_topic()
    pipeline.produce(values(30))
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.produce(values(50)[30:])
    pipeline.drain_all()
    open_batch = pipeline.claim()
    assert open_batch is not None
    pipeline.begin(open_batch)
    known = files(pipeline)
    with restored_to_this_point(pipeline):
        attempt_id = pipeline.attempt(spark)
        assert attempt_id is not None
        pipeline.publish(attempt_id)
        pipeline.produce(values(70)[40:])  # ten of them again
        landings = [pipeline.land(drain_id) for drain_id in pipeline.plan()]
        pipeline.commit(landings)
        forgotten = pipeline.claim()
    # Whoever worked on after the restore finds that the ledger doesn't know the attempt.
    with pytest.raises(StaleAttempt, match="is unknown"):
        pipeline.publish(attempt_id)
    assert pipeline.commit(landings) == 0
    for path in files(pipeline) - known:
        path.write_bytes(b"written by an attempt that the ledger forgot")

    pipeline.produce(values(80)[70:])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert pipeline.one("SELECT max(batch_id) FROM ledger.batches") == forgotten  # ids are given again, folders are not
    pipeline.assert_equals_oracle(pipeline.log())


def test_who_was_erased_since_is_erased_again_under_the_same_token(pipeline: Pipeline, spark: SparkSession) -> None:
    erasing.use_key(pipeline)
    pipeline.create_topic()
    known = erasing.spread([*erasing.hers(), *erasing.others()])
    pipeline.produce(known)
    archive(pipeline, known)
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    with restored_to_this_point(pipeline):
        erasing.erased(pipeline)
        before = tables(pipeline)
    erasing.erased(pipeline)
    assert tables(pipeline) == before
    span = refill.Span.parse(erasing.at(200), erasing.at(0))
    refilled = refill.refill(pipeline.conn, pipeline.settings, span, producer_id=None, dry_run=False)
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert pipeline.dispositions() == {"accepted": len(known), "duplicate": refilled.records}
    assert tables(pipeline) == before
    pipeline.assert_equals_oracle(erasing.mapped_log(pipeline))
    erasing.assert_gone(pipeline)


def test_what_kafka_no_longer_holds_is_declared_lost_and_refilled(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.create_topic()
    pipeline.produce(values(20))
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    landed = pipeline.log()
    with restored_to_this_point(pipeline):
        made = values(60)[20:]
        archive(pipeline, made)
        pipeline.produce(made)
        pipeline.drain_all()
        pipeline.aggregate_all(spark)
        before = tables(pipeline)
    assert tables(pipeline) != before
    expire(pipeline, 0, 25)
    pipeline.drain_all()
    assert stopped(pipeline) == {0: "expired"}
    [lost] = declare(pipeline)
    assert (lost.range.first_offset, lost.range.end_offset) == (10, 25)
    for _ in range(2):
        refill_as_told(pipeline, "database-restored")
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert tables(pipeline) == before
    kept = {(record.partition, record.offset): record for record in [*landed, *pipeline.log()]}
    pipeline.assert_equals_oracle(kept.values())
    assert pipeline.dispositions() == {"accepted": 60, "duplicate": 65}
    assert pipeline.one("SELECT sum(lost)::int FROM ledger.batches WHERE state = 'published'") == 15
