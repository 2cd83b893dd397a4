"""`traffic_by_window`: events by type, exact distinct users and sessions, for each window."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.event_schema import EventType
from clickstream_transform.tables.table import Table

_EVENT_COUNTS = {
    "page_views": EventType.PAGE_VIEW,
    "add_to_carts": EventType.ADD_TO_CART,
    "purchases": EventType.PURCHASE,
    "logins": EventType.LOGIN,
    "logouts": EventType.LOGOUT,
}

SCHEMA = T.StructType(
    [
        T.StructField("window_start", T.TimestampType()),
        T.StructField("window_minutes", T.ShortType()),
        T.StructField("events", T.LongType()),
        *(T.StructField(name, T.LongType()) for name in _EVENT_COUNTS),
        T.StructField("users", T.LongType()),
        T.StructField("sessions", T.LongType()),
    ]
)


def build(window_events: DataFrame) -> DataFrame:
    """Aggregate the events of the changed windows."""
    counts = (F.count_if(F.col("event_type") == kind.value).alias(name) for name, kind in _EVENT_COUNTS.items())
    traffic = window_events.groupBy("window_start", "window_minutes").agg(
        F.count("*").alias("events"),
        *counts,
        F.count_distinct("user_id").alias("users"),
        F.count_distinct("session_id").alias("sessions"),
    )
    return traffic.to(SCHEMA)


TRAFFIC_BY_WINDOW = Table(name="traffic_by_window", build=build)
