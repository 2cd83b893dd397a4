"""What a table is to the pipeline."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        name: as in the analytics schema, and of the folder that its files are written to.
        build: from all accepted events of the changed windows (the events zone's columns, plus window_start
            timestamp and window_minutes short; an event occurs once per changed window that holds it) to the
            table's rows.
    """

    name: str
    build: Callable[[DataFrame], DataFrame]
