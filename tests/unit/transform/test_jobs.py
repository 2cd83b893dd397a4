from threading import Barrier

import pytest
from pyspark.sql import SparkSession

from clickstream_transform.jobs import THREADS, side_by_side
from tests.kit.waiting import eventually

ENDLESS = 2**50


def test_results_come_by_name_in_the_order_given(spark: SparkSession) -> None:
    jobs = {str(number): spark.range(number).count for number in (3, 1, 2, 0)}
    assert list(side_by_side(spark, jobs).items()) == [("3", 3), ("1", 1), ("2", 2), ("0", 0)]


def test_jobs_run_at_the_same_time(spark: SparkSession) -> None:
    meeting = Barrier(THREADS)
    jobs = {str(number): lambda: meeting.wait(timeout=30) for number in range(THREADS)}
    assert sorted(side_by_side(spark, jobs).values()) == list(range(THREADS))


def test_the_first_error_ends_all_jobs_and_is_raised(spark: SparkSession) -> None:
    def endless() -> object:
        return spark.range(ENDLESS).selectExpr("sum(id % 7)").collect()

    tracker = spark.sparkContext.statusTracker()

    def failing() -> object:
        assert eventually(lambda: bool(tracker.getActiveJobsIds()))
        raise ValueError("the first")

    jobs = {"first": endless, "second": failing} | {str(number): endless for number in range(2 * THREADS)}
    with pytest.raises(ValueError, match="the first"):
        side_by_side(spark, jobs)
    assert eventually(lambda: not tracker.getActiveJobsIds())  # it hears of it a little later
