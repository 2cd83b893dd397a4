"""`audience_by_window`: events by each value of each dimension, and their exact distincts, for each window.

A dimension is a line in `dimensions`. Every event counts once under each of them.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.referrer import host_of
from clickstream_transform.tables.table import Changes, Table

_WINDOW = ("window_start", "window_minutes")
SCHEMA = T.StructType(
    [
        T.StructField("window_start", T.TimestampType()),
        T.StructField("window_minutes", T.ShortType()),
        T.StructField("dimension", T.StringType()),
        T.StructField("value", T.StringType()),
        T.StructField("events", T.LongType()),
        T.StructField("users", T.LongType()),
        T.StructField("sessions", T.LongType()),
        T.StructField("purchases", T.LongType()),
    ]
)


def dimensions() -> dict[str, Column]:
    """Return the value of each dimension for an event, never null."""
    return {
        "device": F.col("device"),
        "region": F.col("region"),
        "referrer": host_of("referrer"),
    }


def build(changes: Changes) -> DataFrame:
    """Aggregate the visits of the changed windows, once per dimension."""
    each_dimension = F.array(
        *(F.struct(F.lit(name).alias("dimension"), F.col(name).alias("value")) for name in dimensions())
    )
    audience = (
        changes.visits.select(*_WINDOW, "user_id", "session_id", "events", "purchases", F.inline(each_dimension))
        .groupBy(*_WINDOW, "dimension", "value")
        .agg(
            F.sum("events").alias("events"),
            F.count_distinct("user_id").alias("users"),
            F.count_distinct("session_id").alias("sessions"),
            F.sum("purchases").alias("purchases"),
        )
    )
    return audience.to(SCHEMA)


AUDIENCE_BY_WINDOW = Table(name="audience_by_window", build=build)
