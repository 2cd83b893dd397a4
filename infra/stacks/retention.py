"""How long what is kept on AWS: from the one place of all periods, checked when the stacks are synthesized."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self

from infra.periods import PeriodError, days, variable

BOUNDS = {
    "archive": (1, 36_500),
    "archive_infrequent": (30, 36_500),
    "replaced_objects": (1, 36_500),
    "unfinished_uploads": (1, 36_500),
    "database_snapshots": (1, 35),
    "logs": (7, 90),
    "dead_letters": (1, 14),
}
"""Shortest and longest of each period in days, as S3, RDS, CloudWatch and SQS take them."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Periods in days.

    Attributes:
        archive_infrequent: until the generator's minutes move to the class for seldom reads.
        archive: until they go.
        replaced_objects: until replaced and removed objects really go; at least as long as database_snapshots, since a
            restored database names objects that were removed since.
        unfinished_uploads: until parts of uploads that never ended go.
        database_snapshots: how far back the database may be restored.
        logs: of the Lambda and of the network's refusals.
        dead_letters: until failed invocations are forgotten.
    """

    archive_infrequent: int
    archive: int
    replaced_objects: int
    unfinished_uploads: int
    database_snapshots: int
    logs: int
    dead_letters: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read the periods and check them against each other.

        Raises:
            PeriodError: One is wrong, or two disagree.
        """
        kept = cls(**{name: days(name, environment, least=least, most=most) for name, (least, most) in BOUNDS.items()})
        replaced, snapshots = variable("replaced_objects"), variable("database_snapshots")
        if kept.replaced_objects < kept.database_snapshots:
            raise PeriodError(
                f"{replaced} is {kept.replaced_objects} and {snapshots} is {kept.database_snapshots}; the first must be"
                " at least as long as the second, since a restored database names objects that were removed since."
                f" Raise {replaced} or lower {snapshots}."
            )
        return kept


@cache
def retention() -> Retention:
    """The periods of this synthesis.

    Raises:
        PeriodError: One is wrong, or two disagree.
    """
    return Retention.of(os.environ)
