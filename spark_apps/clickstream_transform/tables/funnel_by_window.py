"""`funnel_by_window`: exact distinct sessions that viewed, put into the cart, and purchased, for each window."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.tables.table import Changes, Table

_STEPS = {"sessions_viewed": "page_views", "sessions_carted": "add_to_carts", "sessions_purchased": "purchases"}

SCHEMA = T.StructType(
    [
        T.StructField("window_start", T.TimestampType()),
        T.StructField("window_minutes", T.ShortType()),
        *(T.StructField(name, T.LongType()) for name in _STEPS),
    ]
)


def build(changes: Changes) -> DataFrame:
    """Aggregate the visits of the changed windows; a session counts in a step whether or not in those before."""
    sessions = changes.visits.groupBy("window_start", "window_minutes", "session_id").agg(
        *(F.sum(count).alias(count) for count in _STEPS.values())
    )
    funnel = sessions.groupBy("window_start", "window_minutes").agg(
        *(F.count_if(F.col(count) > 0).alias(name) for name, count in _STEPS.items())
    )
    return funnel.to(SCHEMA)


FUNNEL_BY_WINDOW = Table(name="funnel_by_window", build=build)
