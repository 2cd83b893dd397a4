from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform.windows import changed_windows, into_windows
from tests.kit.changes import WIDTHS, Row, filled, frame
from tests.kit.lake import NOON

pytestmark = pytest.mark.usefixtures("steps_session")


def windowed(spark: SparkSession, rows: list[Row], *accepted_at: datetime) -> DataFrame:
    starts = [int(moment.timestamp()) for moment in accepted_at]
    changed = changed_windows(spark, unit_starts=starts, window_minutes=WIDTHS)
    return into_windows(frame(spark, filled(rows)), changed, WIDTHS)


def keys(frame: DataFrame) -> list[tuple[datetime, int]]:
    rows = frame.select(F.unix_seconds("window_start").alias("start"), "window_minutes").collect()
    return sorted((datetime.fromtimestamp(row["start"], UTC), row["window_minutes"]) for row in rows)


def test_changed_windows_of_accepted_times(spark: SparkSession) -> None:
    starts = [int((NOON + timedelta(minutes=minutes)).timestamp()) for minutes in (0, 55, 60)]
    assert keys(changed_windows(spark, unit_starts=starts, window_minutes=WIDTHS)) == [
        (NOON, 5),
        (NOON, 60),
        (NOON + timedelta(minutes=55), 5),
        (NOON + timedelta(minutes=60), 5),
        (NOON + timedelta(minutes=60), 60),
    ]


def test_starts_are_inclusive_and_ends_exclusive(spark: SparkSession) -> None:
    last = NOON + timedelta(minutes=5, microseconds=-1)
    rows = [{"event_time": NOON}, {"event_time": last}, {"event_time": NOON + timedelta(minutes=5)}]
    frame = windowed(spark, rows, NOON, NOON + timedelta(minutes=5))
    assert keys(frame) == [(NOON, 5), (NOON, 5), *[(NOON, 60)] * 3, (NOON + timedelta(minutes=5), 5)]


def test_windows_that_gained_nothing_are_left_out(spark: SparkSession) -> None:
    rows = [{"event_time": NOON + timedelta(minutes=minutes)} for minutes in (0, 5, -60)]
    assert keys(windowed(spark, rows, NOON)) == [(NOON, 5), (NOON, 60), (NOON, 60)]
