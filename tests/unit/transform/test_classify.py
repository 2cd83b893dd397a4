"""Each record is judged by its time, its header, the settings and the retired hours; one query judges all of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from clickstream_transform.classify import classify
from clickstream_transform.counts import take_census
from clickstream_transform.parse import parse
from clickstream_transform.protocol import Segment
from clickstream_transform.read import read_segments
from tests.kit.lake import NOON, SETTINGS, Lake, Record, at, value
from tests.kit.records import HISTORIC

MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FIVE_MINUTES = timedelta(minutes=5)
RETIRED = "2026-11-22T20"
IN_RETIRED = NOON + 8 * HOUR


def event_at(moment: datetime, **changes: Any) -> bytes:
    return value(eventTime=at(moment), **changes)


OLD = event_at(datetime(2001, 1, 1, tzinfo=UTC))
CASES = {
    "just not late": (Record(event_at(NOON - DAY), NOON), "candidate"),
    "late": (Record(event_at(NOON - DAY - MICROSECOND), NOON), "late"),
    "not late a millisecond before": (
        Record(event_at(NOON - DAY - MICROSECOND), NOON - timedelta(milliseconds=1)),
        "candidate",
    ),
    "just not in the future": (Record(event_at(NOON + FIVE_MINUTES), NOON), "candidate"),
    "in the future": (Record(event_at(NOON + FIVE_MINUTES + MICROSECOND), NOON), "future_event_time"),
    "historic": (Record(OLD, NOON, HISTORIC), "candidate"),
    "historic, beside another header": (Record(OLD, NOON, (("other", b"x"), *HISTORIC)), "candidate"),
    "Historic": (Record(OLD, NOON, [("clickstream-load", b"Historic")]), "late"),
    "another case of the header": (Record(OLD, NOON, [("Clickstream-Load", b"historic")]), "late"),
    "historic and a space": (Record(OLD, NOON, [("clickstream-load", b"historic ")]), "late"),
    "no header": (Record(OLD, NOON, []), "late"),
    "historic and in the future": (Record(event_at(NOON + DAY), NOON, HISTORIC), "future_event_time"),
    "retired": (Record(event_at(IN_RETIRED), IN_RETIRED), "late"),
    "retired and historic": (Record(event_at(IN_RETIRED), IN_RETIRED, HISTORIC), "late"),
    "before the retired hour": (Record(event_at(IN_RETIRED - MICROSECOND), IN_RETIRED), "candidate"),
    "after the retired hour": (Record(event_at(IN_RETIRED + HOUR), IN_RETIRED + HOUR), "candidate"),
    "retired and in the future": (Record(event_at(IN_RETIRED), IN_RETIRED - DAY), "future_event_time"),
    "in another zone": (Record(value(eventTime="2026-11-22T12:30:00+05:30"), NOON), "candidate"),
    "large": (Record(value(unknown="x" * 2_000_000)), "too_large"),
    "empty": (Record(b""), "not_json"),
    "a list": (Record(b"[]"), "not_an_object"),
    "an empty object": (Record(b"{}"), "missing_field"),
}


def classified(spark: SparkSession, segments: list[Segment]) -> DataFrame:
    return read_segments(spark, segments).transform(parse).transform(classify(SETTINGS, [RETIRED]))


@pytest.fixture(scope="module")
def judged(steps_session: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    frame = classified(steps_session, [lake.segment(record for record, _ in CASES.values())])
    return dict(zip(CASES, frame.orderBy("offset").collect(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_record_is_judged(judged: dict[str, Row], case: str) -> None:
    _, expected = CASES[case]
    assert (judged[case]["reason"] or judged[case]["disposition"]) == expected


def test_the_hour_is_in_utc(judged: dict[str, Row]) -> None:
    assert judged["in another zone"]["hour"] == "2026-11-22T07"


def test_details_come_with_the_reason(judged: dict[str, Row]) -> None:
    details = {case: judged[case]["detail"] for case in ("large", "empty", "a list", "an empty object")}
    assert details == {"large": None, "empty": None, "a list": None, "an empty object": "eventId"}


def test_the_census_counts_each_disposition(steps_session: SparkSession, lake: Lake) -> None:
    records = [
        *[Record(event_at(NOON))] * 3,
        Record(event_at(NOON - 2 * HOUR)),
        *[Record(event_at(NOON - 2 * DAY))] * 2,
        *[Record(b"x")] * 4,
        Record(None),
        Record(event_at(NOON + DAY)),
    ]
    census = take_census(classified(steps_session, [lake.segment(records)]))
    assert (census.landed, census.candidates, census.late, census.rejected) == (12, 4, 2, 6)
    assert census.reasons == {"not_json": 4, "null_value": 1, "future_event_time": 1}
    assert census.hours == ("2026-11-22T10", "2026-11-22T12")


def test_batches_keep_rows_and_results_together(steps_session: SparkSession, lake: Lake) -> None:
    counts = (1, 2_500)
    segments = [
        lake.segment([Record(value(sequence=n) if n % 3 else b"bad") for n in range(count)], partition=partition)
        for partition, count in enumerate(counts)
    ]
    rows = classified(steps_session, segments).orderBy("partition", "offset").collect()
    assert [row["sequence"] for row in rows] == [n if n % 3 else None for count in counts for n in range(count)]
