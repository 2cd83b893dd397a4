"""`users_by_hour`: the distinct users of each UTC hour among the newly accepted events."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from pyspark.sql import types as T  # noqa: N812 - the customary name

from clickstream_transform.tables.table import Changes, Table

SCHEMA = T.StructType(
    [
        T.StructField("hour", T.TimestampType()),
        T.StructField("user_id", T.StringType()),
    ]
)


def build(changes: Changes) -> DataFrame:
    """List the users that the batch saw, once per hour."""
    users = changes.accepted.select(F.date_trunc("hour", "event_time").alias("hour"), "user_id").distinct()
    return users.to(SCHEMA)


USERS_BY_HOUR = Table(name="users_by_hour", build=build)
