"""A release with newer migrations takes over while a batch of the one before is open."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from pyspark.sql import SparkSession

from tests.kit.events import at, values
from tests.kit.pipeline import Pipeline
from tests.kit.records import event
from tests.kit.services import migrate

BEFORE = "0004"
TOTALS = """
SELECT metric, label, value FROM ledger.totals WHERE metric IN ('batches', 'records')
EXCEPT (
    SELECT 'batches', outcome, count(batch_id) FROM unnest(ARRAY['published', 'released']) outcome
    LEFT JOIN ledger.batches ON state = outcome GROUP BY outcome
    UNION ALL
    SELECT 'records', label, sum(records) FROM ledger.batches CROSS JOIN LATERAL (VALUES
        ('accepted', accepted), ('duplicate', duplicate), ('late', late), ('rejected', rejected)) d (label, records)
    WHERE state = 'published' GROUP BY label)
"""


def test_the_open_batch_is_finished_with_the_settings_it_was_claimed_with(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    pipeline.create_topic()
    pipeline.produce(values(30))
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    hours_ago = at(datetime.now(UTC) - timedelta(hours=3))
    pipeline.produce([*values(50)[20:], (0, json.dumps(event(eventId="old", eventTime=hours_ago)).encode())])
    pipeline.drain_all()
    batch_id = pipeline.claim()
    assert batch_id is not None
    unfinished = pipeline.begin(batch_id)
    pipeline.produce(values(60)[50:])
    pipeline.drain()
    pipeline.close()
    migrate(pipeline.stack, pipeline.database, "down", BEFORE)  # as the release before has left it

    migrate(pipeline.stack, pipeline.database, "up")
    pipeline.conn = pipeline.connect()
    pipeline.use(allowed_lateness_hours=1)
    assert pipeline.claim() == batch_id
    newer = pipeline.begin(batch_id)
    assert pipeline.one("SELECT state FROM ledger.attempts WHERE attempt_id = %s", unfinished) == "dead"
    pipeline.transform(spark, newer)
    assert pipeline.publish(newer)
    assert pipeline.one("SELECT late FROM ledger.batches WHERE batch_id = %s", batch_id) == 0
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    assert pipeline.spec(newer).settings.allowed_lateness_seconds == 24 * 3600
    assert (
        pipeline.one("SELECT settings ->> 'allowed_lateness_seconds' FROM ledger.batches ORDER BY 1 LIMIT 1") == "3600"
    )
    pipeline.assert_equals_oracle(pipeline.log())
    assert pipeline.conn.execute(TOTALS).fetchall() == []
