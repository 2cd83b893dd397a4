"""A batch's changes, of rows written in a test; what a row leaves out is filled in."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from clickstream_transform import schemas
from clickstream_transform.tables.table import Changes
from clickstream_transform.tables.visits import into_visits
from clickstream_transform.windows import changed_windows, into_windows
from tests.kit.lake import NOON

Row = dict[str, Any]
WIDTHS = (5, 60)


def filled(rows: Sequence[Row]) -> list[Row]:
    """Return rows with the columns of an event, event_id and fingerprint by the row's number."""
    return [
        {
            "event_id": f"e{number}",
            "fingerprint": number.to_bytes(32, "big"),
            "event_type": "PAGE_VIEW",
            "event_time": NOON,
            "user_id": "u",
            "session_id": "s",
            "device": "mobile",
            "region": "EU",
            "page": "/",
            "referrer": None,
            "amount": None,
            "currency": None,
        }
        | row
        for number, row in enumerate(rows)
    ]


def frame(spark: SparkSession, rows: Iterable[Row]) -> DataFrame:
    """Return events as the events zone holds them."""
    schema = to_arrow_schema(schemas.EVENTS, timezone="UTC")
    return spark.createDataFrame(pa.Table.from_pylist(list(rows), schema=schema))


def changes(spark: SparkSession, new: Sequence[Row], live: Sequence[Row] = ()) -> Changes:
    """Return what a batch changed that accepted the `new` rows where the `live` ones were."""
    rows = filled([*new, *live])
    accepted = frame(spark, rows[: len(new)])
    events = accepted.unionByName(frame(spark, rows[len(new) :]))
    starts = {int(row["event_time"].timestamp()) for row in rows[: len(new)]}
    changed = changed_windows(spark, unit_starts=starts, window_minutes=WIDTHS)
    window_events = into_windows(events, changed, WIDTHS)
    return Changes(accepted, events, window_events, into_visits(window_events))


def rows_of(frame: DataFrame) -> list[Row]:
    """Return a frame's rows, times with their zone."""
    rows: list[Row] = frame.toArrow().to_pylist()
    return rows
