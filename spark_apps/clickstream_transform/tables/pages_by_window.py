"""`pages_by_window`: views of each page, and their exact distinct users and sessions, for each window."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.event_schema import EventType
from clickstream_transform.tables.table import Changes, Table

SCHEMA = T.StructType(
    [
        T.StructField("window_start", T.TimestampType()),
        T.StructField("window_minutes", T.ShortType()),
        T.StructField("page", T.StringType()),
        T.StructField("views", T.LongType()),
        T.StructField("users", T.LongType()),
        T.StructField("sessions", T.LongType()),
    ]
)


def build(changes: Changes) -> DataFrame:
    """Aggregate the page views of the changed windows."""
    views = changes.window_events.where(F.col("event_type") == EventType.PAGE_VIEW.value)
    pages = views.groupBy("window_start", "window_minutes", path_of("page").alias("page")).agg(
        F.count("*").alias("views"),
        F.count_distinct("user_id").alias("users"),
        F.count_distinct("session_id").alias("sessions"),
    )
    return pages.to(SCHEMA)


def path_of(page: str) -> Column:
    """Return a page column before its first `?` or `#`, otherwise unchanged; what is empty then is `/`."""
    path = F.substring_index(F.substring_index(page, "?", 1), "#", 1)
    return F.when(path == "", "/").otherwise(path)


PAGES_BY_WINDOW = Table(name="pages_by_window", build=build)
