"""`revenue_by_window`: purchases and the exact sum of their amounts in each currency, for each window."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.event_schema import EventType
from clickstream_transform.tables.table import Changes, Table

SCHEMA = T.StructType(
    [
        T.StructField("window_start", T.TimestampType()),
        T.StructField("window_minutes", T.ShortType()),
        T.StructField("currency", T.StringType()),
        T.StructField("purchases", T.LongType()),
        T.StructField("amount", T.DecimalType(38, 6)),
    ]
)


def build(changes: Changes) -> DataFrame:
    """Aggregate the purchases of the changed windows; amounts outside of purchases don't count."""
    purchases = changes.window_events.where(F.col("event_type") == EventType.PURCHASE.value)
    revenue = purchases.groupBy("window_start", "window_minutes", "currency").agg(
        F.count("*").alias("purchases"),
        F.sum("amount").alias("amount"),
    )
    return revenue.to(SCHEMA)


REVENUE_BY_WINDOW = Table(name="revenue_by_window", build=build)
