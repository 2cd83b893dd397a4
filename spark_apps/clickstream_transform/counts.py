"""Counting what the steps decided: by aggregates, which task retries cannot distort."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform.classify import Disposition
from clickstream_transform.windows import seconds_since_start

SECONDS_PER_HOUR = 3_600


@dataclass(frozen=True)
class Census:
    """Counts over the classified rows; `hours` are those of the candidates, sorted."""

    landed: int
    late: int
    rejected: int
    reasons: Mapping[str, int]
    candidates: int
    hours: tuple[str, ...]


@dataclass(frozen=True)
class Tally:
    """Counts over the deduped candidates; `accepted_by_unit` by the unit's start in epoch seconds."""

    accepted: int
    duplicate: int
    id_conflicts: int
    accepted_by_unit: Mapping[int, int]

    def largest_hour(self) -> int:
        """Return the number of accepted events in the hour that has most of them."""
        by_hour: Counter[int] = Counter()
        for start, events in self.accepted_by_unit.items():
            by_hour[start // SECONDS_PER_HOUR] += events
        return max(by_hour.values(), default=0)


def take_census(classified: DataFrame) -> Census:
    """Count classified rows by disposition, by reason and, for candidates, by hour."""
    is_candidate = F.col("disposition") == Disposition.CANDIDATE.value
    rows = (
        classified.groupBy("disposition", "reason", F.when(is_candidate, F.col("hour")).alias("hour"))
        .agg(F.count("*").alias("records"))
        .collect()
    )

    def total(disposition: Disposition) -> int:
        return sum(row["records"] for row in rows if row["disposition"] == disposition)

    return Census(
        landed=sum(row["records"] for row in rows),
        late=total(Disposition.LATE),
        rejected=total(Disposition.REJECTED),
        reasons={row["reason"]: row["records"] for row in sorted(rows) if row["reason"] is not None},
        candidates=total(Disposition.CANDIDATE),
        hours=tuple(sorted(row["hour"] for row in rows if row["hour"] is not None)),
    )


def take_tally(deduped: DataFrame, unit_minutes: int) -> Tally:
    """Count deduped candidates by disposition and by time unit, a common divisor of the window widths."""
    unit = F.unix_seconds("event_time") - seconds_since_start("event_time", F.lit(unit_minutes))
    rows = (
        deduped.groupBy("disposition", unit.alias("unit"))
        .agg(F.count("*").alias("events"), F.count_if("id_conflict").alias("id_conflicts"))
        .collect()
    )
    accepted = {row["unit"]: row["events"] for row in rows if row["disposition"] == Disposition.ACCEPTED}
    return Tally(
        accepted=sum(accepted.values()),
        duplicate=sum(row["events"] for row in rows if row["disposition"] == Disposition.DUPLICATE),
        id_conflicts=sum(row["id_conflicts"] for row in rows),
        accepted_by_unit=accepted,
    )
