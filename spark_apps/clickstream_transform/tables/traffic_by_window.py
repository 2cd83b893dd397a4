"""`traffic_by_window`: events by type, exact distinct users and sessions, for each window."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.tables.table import Changes, Table
from clickstream_transform.tables.visits import COUNTS

SCHEMA = T.StructType(
    [
        T.StructField("window_start", T.TimestampType()),
        T.StructField("window_minutes", T.ShortType()),
        T.StructField("events", T.LongType()),
        *(T.StructField(name, T.LongType()) for name in COUNTS),
        T.StructField("users", T.LongType()),
        T.StructField("sessions", T.LongType()),
    ]
)


def build(changes: Changes) -> DataFrame:
    """Aggregate the visits of the changed windows."""
    traffic = changes.visits.groupBy("window_start", "window_minutes").agg(
        F.sum("events").alias("events"),
        *(F.sum(name).alias(name) for name in COUNTS),
        F.count_distinct("user_id").alias("users"),
        F.count_distinct("session_id").alias("sessions"),
    )
    return traffic.to(SCHEMA)


TRAFFIC_BY_WINDOW = Table(name="traffic_by_window", build=build)
