from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql.pandas.types import to_arrow_schema

from clickstream_transform import schemas
from clickstream_transform.tables import TABLES, traffic_by_window
from clickstream_transform.windows import changed_windows, into_windows
from tests.unit.transform.records import NOON

WIDTHS = (5, 60)

pytestmark = pytest.mark.usefixtures("steps_session")


def events(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    defaults = {"event_type": "PAGE_VIEW", "user_id": "u", "session_id": "s"}
    table = pa.Table.from_pylist(
        [defaults | row for row in rows], schema=to_arrow_schema(schemas.EVENTS, timezone="UTC")
    )
    return spark.createDataFrame(table)


def windowed(spark: SparkSession, rows: list[dict[str, Any]], *accepted_at: datetime) -> DataFrame:
    starts = [int(moment.timestamp()) for moment in accepted_at]
    changed = changed_windows(spark, unit_starts=starts, window_minutes=WIDTHS)
    return into_windows(events(spark, rows), changed, WIDTHS)


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


def test_traffic_counts_types_and_exact_distincts(spark: SparkSession) -> None:
    kinds = ["PAGE_VIEW"] * 3 + ["ADD_TO_CART"] * 2 + ["PURCHASE", "LOGIN", "LOGOUT"]
    users = ["a", "A", "a ", "\u00e9", "e\u0301", "a", "a", "a"]
    rows = [
        {"event_time": NOON + timedelta(minutes=n), "event_type": kind, "user_id": user, "session_id": f"s{n // 4}"}
        for n, (kind, user) in enumerate(zip(kinds, users, strict=True))
    ]
    traffic = traffic_by_window.build(windowed(spark, rows, NOON))
    assert traffic.schema.names == traffic_by_window.SCHEMA.names
    assert [field.dataType for field in traffic.schema] == [field.dataType for field in traffic_by_window.SCHEMA]
    hour, five = (row.asDict() for row in traffic.drop("window_start").orderBy(F.desc("window_minutes")).collect())
    assert hour == {
        "window_minutes": 60,
        "events": 8,
        "page_views": 3,
        "add_to_carts": 2,
        "purchases": 1,
        "logins": 1,
        "logouts": 1,
        "users": 5,
        "sessions": 2,
    }
    assert (five["events"], five["page_views"], five["add_to_carts"], five["users"]) == (5, 3, 2, 5)


def test_tables_are_registered_once() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
