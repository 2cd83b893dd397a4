"""Batches of rows written in a test, and what the tables say of them; what a row leaves out is filled in."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from clickstream_transform import schemas
from clickstream_transform.tables import TABLES
from clickstream_transform.tables.table import Changes
from clickstream_transform.tables.visits import into_visits
from clickstream_transform.windows import changed_windows, into_windows
from tests.kit.lake import NOON

Row = dict[str, Any]
Rows = dict[str, list[Row]]
WIDTHS = (5, 60)
DAY = timedelta(days=1)


class Batch(NamedTuple):
    """Events of the day of `NOON`: what a batch accepted, and what was there before."""

    new: Sequence[Row]
    live: Sequence[Row] = ()


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


def changes(spark: SparkSession, new: Sequence[Row], live: Sequence[Row]) -> Changes:
    """Return what changed when the `new` events, whose columns are complete, came to the `live` ones."""
    accepted = frame(spark, new)
    events = accepted.unionByName(frame(spark, live))
    starts = {int(row["event_time"].timestamp()) for row in new}
    changed = changed_windows(spark, unit_starts=starts, window_minutes=WIDTHS)
    window_events = into_windows(events, changed, WIDTHS)
    return Changes(accepted, events, window_events, into_visits(window_events))


def tables_of(spark: SparkSession, batches: Sequence[Batch]) -> list[Rows]:
    """Return the rows of each table for each batch.

    Each table is built once, for all batches: each is on a day of its own, and so has windows and sessions' hours of
    its own.
    """
    new: list[Row] = []
    live: list[Row] = []
    for day, batch in enumerate(batches):
        rows = [moved(row, day) for row in filled([*batch.new, *batch.live])]
        new += rows[: len(batch.new)]
        live += rows[len(batch.new) :]
    made = changes(spark, new, live)
    found: list[Rows] = [{table.name: [] for table in TABLES} for _ in batches]
    for table in TABLES:
        for row in table.build(made).toArrow().to_pylist():
            day = (row.get("hour", row.get("window_start")).date() - NOON.date()).days
            found[day][table.name].append(moved(row, -day))
    return found


def moved(row: Row, days: int) -> Row:
    """Return the row with all its times so many days later."""
    return {name: value + days * DAY if isinstance(value, datetime) else value for name, value in row.items()}
