"""What a table is to the pipeline."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Changes:
    """What a batch changed, each frame with all columns of the events zone but `visits`.

    Attributes:
        accepted: the newly accepted events.
        events: all accepted events of the hours that gained one, live and new.
        window_events: all accepted events of the windows that gained one, plus window_start timestamp and
            window_minutes short; an event occurs once for each such window that holds it.
        visits: `window_events` grouped by window, user, session and audience (see `visits.into_visits`).
    """

    accepted: DataFrame
    events: DataFrame
    window_events: DataFrame
    visits: DataFrame


@dataclass(frozen=True)
class Table:
    """A table that a batch recomputes in part.

    Attributes:
        name: as in the analytics schema, and of the folder that its files are written to.
        build: from the batch's changes to the table's rows.
    """

    name: str
    build: Callable[[Changes], DataFrame]
