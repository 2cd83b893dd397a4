"""Step 2: the rules that need more than the value: record timestamp, headers, settings and retired hours."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform import schemas
from clickstream_transform.event_schema import Reason
from clickstream_transform.protocol import Settings

_MICROS = 1_000_000


class Disposition(StrEnum):
    """What becomes of a landed record. A candidate ends as a duplicate or accepted."""

    REJECTED = "rejected"
    LATE = "late"
    CANDIDATE = "candidate"
    DUPLICATE = "duplicate"
    ACCEPTED = "accepted"


def classify(rules: Settings, retired_hours: Sequence[str]) -> Callable[[DataFrame], DataFrame]:
    """Return the step that decides rejected, late or candidate.

    It adds `disposition` and `hour` (YYYY-MM-DDTHH in UTC).
    """

    def step(parsed: DataFrame) -> DataFrame:
        age = F.unix_micros("record_time") - F.unix_micros("event_time")
        is_future = age < -rules.max_future_seconds * _MICROS
        is_too_old = (age > rules.allowed_lateness_seconds * _MICROS) & ~F.col("historic")
        is_retired = F.col("hour").isin(list(retired_hours))
        is_rejected = F.col("reason").isNotNull()
        disposition = (
            F.when(is_rejected, Disposition.REJECTED.value)
            .when(is_too_old | is_retired, Disposition.LATE.value)
            .otherwise(Disposition.CANDIDATE.value)
        )
        return (
            parsed.withColumn("hour", hour_of("event_time"))
            .withColumn("reason", F.coalesce("reason", F.when(is_future, Reason.FUTURE_EVENT_TIME.value)))
            .select(
                "topic_id",
                "partition",
                "offset",
                "record_time",
                disposition.alias("disposition"),
                "reason",
                "detail",
                "hour",
                *schemas.EVENT.names,
            )
        )

    return step


def hour_of(time: str) -> Column:
    """Return the UTC hour of a timestamp column as YYYY-MM-DDTHH, as folders and manifests spell it."""
    return F.date_format(time, "yyyy-MM-dd'T'HH")
