"""Step 3: of equal events the first is accepted, the others are duplicates."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform.classify import Disposition, hour_of
from clickstream_transform.session import colocate

_ARRIVAL = ("arrived", "topic_id", "partition", "offset")


def dedupe(candidates: DataFrame, live: DataFrame, *, tasks: int) -> DataFrame:
    """Decide each candidate's disposition, and whether it is an id conflict.

    The first of an identity is a live event, else the candidate at the least coordinates (topic_id,
    partition, offset), compared by bytes and numbers. `id_conflict` is true for an accepted event if
    another accepted event of the same event_id and hour was there before it; the first row of an event_id
    and hour always is accepted, so that is any but the first.

    At most one shuffle, by (hour, event_id), serves both: equal identity implies both equal.

    Args:
        candidates: classified rows with disposition `candidate`.
        live: the live events of the hours of the candidates; their files are read for the identity columns
        only.
        tasks: how many tasks to spread the work over.

    Returns:
        The candidates with `disposition` accepted or duplicate, and boolean `id_conflict`.
    """
    by_id = Window.partitionBy("hour", "event_id").orderBy(*_ARRIVAL)
    by_identity = Window.partitionBy("hour", "event_id", "fingerprint").orderBy(*_ARRIVAL)
    known = live.select(hour_of("event_time").alias("hour"), "event_id", "fingerprint")
    is_first = F.col("nth_of_identity") == 1
    rows = candidates.withColumn("arrived", F.lit(True)).unionByName(  # noqa: FBT003 - a literal column
        known.withColumn("arrived", F.lit(False)),  # noqa: FBT003 - likewise
        allowMissingColumns=True,
    )
    return (
        colocate(rows, tasks, "hour", "event_id")
        .withColumn("nth_of_identity", F.row_number().over(by_identity))
        .withColumn("nth_of_id", F.row_number().over(by_id))
        .where("arrived")
        .withColumn(
            "disposition",
            F.when(is_first, Disposition.ACCEPTED.value).otherwise(Disposition.DUPLICATE.value),
        )
        .withColumn("id_conflict", is_first & (F.col("nth_of_id") > 1))
        .select(*candidates.columns, "id_conflict")
    )
