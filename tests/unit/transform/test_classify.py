from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from clickstream_transform.classify import classify
from clickstream_transform.counts import take_census
from clickstream_transform.parse import parse
from clickstream_transform.read import read_segments
from tests.kit.lake import NOON, SETTINGS, Lake, Record, at, value
from tests.kit.records import HISTORIC

MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
FIVE_MINUTES = timedelta(minutes=5)

pytestmark = pytest.mark.usefixtures("steps_session")


def classified(spark: SparkSession, lake: Lake, records: Sequence[Record], retired: Sequence[str] = ()) -> DataFrame:
    segments = [lake.segment(records)]
    return read_segments(spark, segments).transform(parse).transform(classify(SETTINGS, retired))


def dispositions(frame: DataFrame) -> list[str]:
    return [row["reason"] or row["disposition"] for row in frame.orderBy("offset").collect()]


def event_at(moment: datetime, **changes: Any) -> bytes:
    return value(eventTime=at(moment), **changes)


def test_lateness_and_future_are_exact_to_the_microsecond(spark: SparkSession, lake: Lake) -> None:
    records = [
        Record(event_at(NOON - DAY), NOON),
        Record(event_at(NOON - DAY - MICROSECOND), NOON),
        Record(event_at(NOON - DAY - MICROSECOND), NOON + timedelta(milliseconds=-1)),
        Record(event_at(NOON + FIVE_MINUTES), NOON),
        Record(event_at(NOON + FIVE_MINUTES + MICROSECOND), NOON),
    ]
    assert dispositions(classified(spark, lake, records)) == [
        "candidate",
        "late",
        "candidate",
        "candidate",
        "future_event_time",
    ]


def test_the_historic_header_lifts_lateness_only(spark: SparkSession, lake: Lake) -> None:
    old = event_at(datetime(2001, 1, 1, tzinfo=UTC))
    records = [
        Record(old, NOON, HISTORIC),
        Record(old, NOON, (("other", b"x"), *HISTORIC)),
        Record(old, NOON, [("clickstream-load", b"Historic")]),
        Record(old, NOON, [("Clickstream-Load", b"historic")]),
        Record(old, NOON, [("clickstream-load", b"historic ")]),
        Record(old, NOON, []),
        Record(event_at(NOON + DAY), NOON, HISTORIC),
    ]
    assert dispositions(classified(spark, lake, records)) == [
        *["candidate"] * 2,
        *["late"] * 4,
        "future_event_time",
    ]


def test_retired_hours_are_late_even_when_historic(spark: SparkSession, lake: Lake) -> None:
    records = [
        Record(event_at(NOON), NOON),
        Record(event_at(NOON), NOON, HISTORIC),
        Record(event_at(NOON - MICROSECOND), NOON),
        Record(event_at(NOON + timedelta(hours=1)), NOON + timedelta(hours=1)),
    ]
    frame = classified(spark, lake, records, retired=["2026-11-22T12"])
    assert dispositions(frame) == ["late", "late", "candidate", "candidate"]


def test_a_future_event_in_a_retired_hour_is_rejected(spark: SparkSession, lake: Lake) -> None:
    frame = classified(spark, lake, [Record(event_at(NOON), NOON - DAY)], retired=["2026-11-22T12"])
    assert dispositions(frame) == ["future_event_time"]


def test_the_hour_is_in_utc(spark: SparkSession, lake: Lake) -> None:
    frame = classified(spark, lake, [Record(value(eventTime="2026-11-22T12:30:00+05:30"), NOON)])
    assert [row["hour"] for row in frame.collect()] == ["2026-11-22T07"]


def test_the_census_counts_each_disposition(spark: SparkSession, lake: Lake) -> None:
    records = [
        *[Record(event_at(NOON))] * 3,
        Record(event_at(NOON - timedelta(hours=2))),
        *[Record(event_at(NOON - 2 * DAY))] * 2,
        *[Record(b"x")] * 4,
        Record(None),
        Record(event_at(NOON + DAY)),
    ]
    census = take_census(classified(spark, lake, records))
    assert (census.landed, census.candidates, census.late, census.rejected) == (12, 4, 2, 6)
    assert census.reasons == {"not_json": 4, "null_value": 1, "future_event_time": 1}
    assert census.hours == ("2026-11-22T10", "2026-11-22T12")


def test_large_and_odd_values_take_the_same_way(spark: SparkSession, lake: Lake) -> None:
    oversize = value(unknown="x" * 2_000_000)
    frame = classified(spark, lake, [Record(oversize), Record(b""), Record(b"[]"), Record(b"{}")])
    rows = frame.orderBy("offset").collect()
    assert [(row["reason"], row["detail"]) for row in rows] == [
        ("too_large", None),
        ("not_json", None),
        ("not_an_object", None),
        ("missing_field", "eventId"),
    ]


@pytest.mark.parametrize("count", [1, 2_500])
def test_batches_keep_rows_and_results_together(spark: SparkSession, lake: Lake, count: int) -> None:
    records = [Record(value(sequence=n) if n % 3 else b"bad") for n in range(count)]
    rows = classified(spark, lake, records).orderBy("offset").collect()
    assert [row["sequence"] for row in rows] == [n if n % 3 else None for n in range(count)]
