"""A release with newer migrations takes over while a batch of the one before is open."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import SparkSession

from tests.kit.events import event_record
from tests.kit.open_batch import NOON, records_of
from tests.kit.pipeline import Pipeline
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
    published, _ = records_of(range(60))
    three_hours_ago = event_record(30, NOON - timedelta(hours=3), landed_at=NOON, eventId="old")
    claimed = [three_hours_ago, *records_of(range(60, 100), first_offset=31)[0]]
    waits, _ = records_of(range(100, 120), first_offset=51)
    pipeline.land_records(published)
    pipeline.aggregate_all(spark)
    pipeline.land_records(claimed)
    batch_id = pipeline.claim()
    assert batch_id is not None
    unfinished = pipeline.begin(batch_id)
    pipeline.land_records(waits)
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
    assert pipeline.spec(newer).settings.allowed_lateness_seconds == 24 * 3600
    pipeline.assert_equals_oracle([*published, *claimed])
    following = pipeline.claim()
    assert following is not None
    assert pipeline.spec(pipeline.begin(following)).settings.allowed_lateness_seconds == 3600
    assert pipeline.conn.execute(TOTALS).fetchall() == []
