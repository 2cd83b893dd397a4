"""The benchmark of ninety days runs: few days of few batches, with periods that are over within them."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from benchmarks import ninety_days
from benchmarks.ninety_days import History
from benchmarks.postgres import server
from clickstream.retention import Retention
from infra.local.status import local_data

DAYS = 4
BATCHES = 20
SHORT = Retention(
    kafka_days=1, raw_days=1, rejected_days=1, attempts_days=1, events_days=2, windows_5_days=2, windows_60_days=2,
    sessions_days=2, ledger_days=1, published_days=2, archive_days=1, grace_hours=2,
)  # fmt: skip


@pytest.mark.long
def test_few_days_age_in_balance_and_batches_go_on_after_each_of_them(spark: SparkSession) -> None:
    with server() as stack:
        history = History.begin(stack, spark, days=DAYS, batches=BATCHES, retention=SHORT)
        sizes = ninety_days.live_through(history, [1, DAYS // 2, DAYS], [1, DAYS])
        assert ninety_days.unaccounted(sizes, {}) == []
        assert (
            history.pipeline.conn.execute("SELECT * FROM ledger.hour_checks WHERE expected <> found").fetchall() == []
        )

        first, last = sizes[1], sizes[DAYS]
        assert first.zones["raw"].files == 3 * BATCHES
        assert last.zones["raw"].files <= 3 * 2 * BATCHES
        assert last.zones["rejected"].files <= 2 * BATCHES
        assert last.zones["batches"].files <= 3 * 2 * BATCHES
        assert last.rows["ledger.batches"] <= 3 * BATCHES
        assert last.rows["ledger.drains"] <= 3 * BATCHES
        assert last.rows["ledger.retired_hours"] > 0
        total = "SELECT value FROM ledger.totals WHERE (metric, label) = ('batches', 'published')"
        assert history.pipeline.one(total) == DAYS * BATCHES
        assert history.pipeline.one("SELECT sum(folded) + count(*) FROM ledger.batches") == DAYS * BATCHES

        courses = history.courses(spark)
        costs = {days: course.pair() for days, course in courses.items()}
        assert ninety_days.unaccounted(sizes, courses) == []
        ninety_days.print_sizes(sizes, history)
        ninety_days.print_costs(courses, costs)
        assert [zone for zone, _ in local_data(stack)][:2] == ["archive/", "batches/"]
        for pipeline in (history.pipeline, *(course.pipeline for course in courses.values())):
            pipeline.close()
        history.conn.close()
