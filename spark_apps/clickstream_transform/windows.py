"""Tumbling windows in UTC: window_start = floor(epoch / width), start inclusive."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

SECONDS_PER_MINUTE = 60


def changed_windows(spark: SparkSession, *, unit_starts: Iterable[int], window_minutes: Sequence[int]) -> DataFrame:
    """Return the windows that hold one of the given times, as (window_start, window_minutes).

    Args:
        spark: the session.
        unit_starts: seconds since the epoch of times in which an event was accepted.
        window_minutes: the widths.
    """
    changed = sorted(
        {
            (start - start % (minutes * SECONDS_PER_MINUTE), minutes)
            for start in unit_starts
            for minutes in window_minutes
        }
    )
    starts = pa.array([start for start, _ in changed], pa.timestamp("s", tz="UTC"))
    widths = pa.array([minutes for _, minutes in changed], pa.int16())
    columns = {"window_start": starts.cast(pa.timestamp("us", tz="UTC")), "window_minutes": widths}
    return spark.createDataFrame(pa.table(columns))


def into_windows(events: DataFrame, windows: DataFrame, window_minutes: Sequence[int]) -> DataFrame:
    """Put each event into those of its windows that are listed, adding window_start and window_minutes.

    Events in none of them disappear. The listed windows are broadcast: they are few, and known to the driver.
    """
    widths = F.array(*(F.lit(minutes).cast("short") for minutes in window_minutes))
    return (
        events.withColumn("window_minutes", F.explode(widths))
        .withColumn("window_start", window_start("event_time", F.col("window_minutes")))
        .join(F.broadcast(windows), on=["window_start", "window_minutes"], how="left_semi")
    )


def window_start(time: str, minutes: Column) -> Column:
    """Return the start of the window of `minutes` that holds a timestamp column."""
    return F.timestamp_seconds(F.unix_seconds(time) - seconds_since_start(time, minutes))


def seconds_since_start(time: str, minutes: Column) -> Column:
    """Return the whole seconds between the start of its window and a timestamp column."""
    return F.unix_seconds(time) % (minutes.cast("int") * SECONDS_PER_MINUTE)
