"""`session_hours`: what a session did in one UTC hour, of which `sessions` is the fold.

The least and the greatest event are those by (event_time, event_id, fingerprint), strings compared by bytes.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.event_schema import EventType
from clickstream_transform.tables.pages_by_window import path_of
from clickstream_transform.tables.table import Changes, Table
from clickstream_transform.tables.visits import count_of

_COUNTS = ("page_views", "add_to_carts", "purchases")
_OF_LEAST_EVENT = ("user_id", "device", "region")

SCHEMA = T.StructType(
    [
        T.StructField("session_id", T.StringType()),
        T.StructField("hour", T.TimestampType()),
        T.StructField("started_at", T.TimestampType()),
        T.StructField("ended_at", T.TimestampType()),
        T.StructField("events", T.LongType()),
        *(T.StructField(name, T.LongType()) for name in _COUNTS),
        *(T.StructField(name, T.StringType()) for name in _OF_LEAST_EVENT),
        T.StructField("entry_page", T.StringType()),
        T.StructField("exit_page", T.StringType()),
    ]
)


def build(changes: Changes) -> DataFrame:
    """Aggregate all events of those sessions, in those hours, that gained one."""
    hour = F.date_trunc("hour", "event_time").alias("hour")
    gained = changes.accepted.select("session_id", hour)
    events = changes.events.select("*", hour).join(gained, on=["session_id", "hour"], how="left_semi")
    order = F.struct("event_time", "event_id", "fingerprint")
    view_order = F.when(F.col("event_type") == EventType.PAGE_VIEW.value, order)
    hours = events.groupBy("session_id", "hour").agg(
        F.min("event_time").alias("started_at"),
        F.max("event_time").alias("ended_at"),
        F.count("*").alias("events"),
        *(count_of(name) for name in _COUNTS),
        *(F.min_by(name, order).alias(name) for name in _OF_LEAST_EVENT),
        F.min_by(path_of("page"), view_order).alias("entry_page"),
        F.max_by(path_of("page"), view_order).alias("exit_page"),
    )
    return hours.to(SCHEMA)


SESSION_HOURS = Table(name="session_hours", build=build)
