"""Visits: what each user did in each session, under the same audience, within a window.

Distinct counts and dimensions multiply the rows that go through an aggregation. A visit stands for all of its events
there, so the tables that don't ask for single events are made of visits.
"""

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform.event_schema import EventType
from clickstream_transform.tables.audience_by_window import dimensions

COUNTS: Final = {
    "page_views": EventType.PAGE_VIEW,
    "add_to_carts": EventType.ADD_TO_CART,
    "purchases": EventType.PURCHASE,
    "logins": EventType.LOGIN,
    "logouts": EventType.LOGOUT,
}
"""Names of the counts of events by type."""


def into_visits(window_events: DataFrame) -> DataFrame:
    """Group events by window, user_id, session_id and every dimension; `events` and each of `COUNTS` are sums."""
    audience = (value.alias(dimension) for dimension, value in dimensions().items())
    return window_events.groupBy("window_start", "window_minutes", "user_id", "session_id", *audience).agg(
        F.count("*").alias("events"), *(count_of(name) for name in COUNTS)
    )


def count_of(name: str) -> Column:
    """Count the events of the type that `COUNTS` names so."""
    return F.count_if(F.col("event_type") == COUNTS[name].value).alias(name)
