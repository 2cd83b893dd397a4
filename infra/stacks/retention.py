"""How long what is kept on AWS: from the one place of all periods, checked when the stacks are synthesized."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Self

from infra.periods import periods


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Periods in days.

    Attributes:
        archive_infrequent: until the generator's minutes move to the class for seldom reads.
        archive: until they go.
        replaced_objects: until replaced and removed objects really go.
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
        """Read the periods; all are checked, those too that only the host's pipeline knows.

        Raises:
            PeriodError: One is wrong or unknown, or two disagree.
        """
        found = periods(environment)
        return cls(**{field.name: found[f"{field.name}_days"] for field in fields(cls)})


@cache
def retention() -> Retention:
    """The periods of this synthesis.

    Raises:
        PeriodError: One is wrong or unknown, or two disagree.
    """
    return Retention.of(os.environ)
