"""What the app is told and what it answers: the spec of one attempt, and the report on it.

Both travel as JSON files. The report is written last: where it exists, every file that it names is complete.

Paths are URLs as fsspec and Hadoop spell them, not percent-encoded.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from clickstream_transform import jsonform

_HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}")
_MINUTES_PER_HOUR = 60


@dataclass(frozen=True)
class Settings:
    """The settings recorded with the batch when it was claimed; each width divides 60."""

    allowed_lateness_seconds: int
    max_future_seconds: int
    window_minutes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        for name in ("allowed_lateness_seconds", "max_future_seconds"):
            if getattr(self, name) < 0:
                raise jsonform.MalformedFieldError.wrong(f"settings.{name}", "seconds >= 0", getattr(self, name))
        widths = self.window_minutes
        if (
            not widths
            or len(set(widths)) < len(widths)
            or any(width < 1 or _MINUTES_PER_HOUR % width for width in widths)
        ):
            raise jsonform.MalformedFieldError.wrong(
                "settings.window_minutes", "distinct widths that divide 60", list(widths)
            )


@dataclass(frozen=True)
class Segment:
    """A raw file: `records` records of one partition, at offsets in [first_offset, end_offset)."""

    topic_id: str
    partition: int
    first_offset: int
    end_offset: int
    records: int
    path: str


@dataclass(frozen=True)
class HourFile:
    """A live event file of the UTC hour `hour` (YYYY-MM-DDTHH), holding `records` accepted events."""

    hour: str
    path: str
    records: int

    def __post_init__(self) -> None:
        """Refuse an hour in another form: it would never be found touched."""
        _check_hour("event_files.hour", self.hour)


@dataclass(frozen=True)
class Output:
    """URLs to write to: three folders which must not exist yet, and the report's file."""

    events: str
    rejected: str
    tables: str
    report: str


@dataclass(frozen=True)
class Spec:
    """All that an attempt depends on."""

    batch_id: int
    attempt_id: str
    settings: Settings
    segments: tuple[Segment, ...]
    retired_hours: tuple[str, ...]
    event_files: tuple[HourFile, ...]
    output: Output

    def __post_init__(self) -> None:
        """Refuse retired hours in another form: they would retire nothing."""
        for hour in self.retired_hours:
            _check_hour("retired_hours", hour)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Spec":
        """Read a spec; unknown keys are ignored.

        Raises:
            MalformedFieldError: a field is missing or malformed; the message names it.
            json.JSONDecodeError: the text is not JSON.
        """
        return jsonform.decode(cls, json.loads(text), "spec")


@dataclass(frozen=True)
class EventFile:
    """A written file of accepted events of one UTC hour."""

    hour: str
    path: str
    records: int
    bytes: int


@dataclass(frozen=True)
class OutputFile:
    """A written Parquet file; `records` is its footer's row count."""

    path: str
    records: int
    bytes: int


@dataclass(frozen=True)
class FilesRead:
    """How much of the events zone was opened."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """What an attempt found and wrote.

    Every count is counted: `landed`, `duplicate`, `late`, `reasons` and `id_conflicts` over classified rows,
    `accepted` and `rejected` in the footers of the written files. `hours` are those of the candidate
    events, whose live files were read. `stages` are wall-clock seconds by step.
    """

    batch_id: int
    attempt_id: str
    landed: int
    accepted: int
    duplicate: int
    late: int
    rejected: int
    id_conflicts: int
    reasons: Mapping[str, int]
    hours: tuple[str, ...]
    hours_read: FilesRead
    event_files: tuple[EventFile, ...]
    rejected_files: tuple[OutputFile, ...]
    tables: Mapping[str, tuple[OutputFile, ...]]
    stages: Mapping[str, float]

    def to_json(self) -> str:
        """Return the report as indented JSON with sorted keys."""
        return json.dumps(jsonform.encode(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Report":
        """Read a report back.

        Raises:
            MalformedFieldError: a field is missing or malformed; the message names it.
            json.JSONDecodeError: the text is not JSON.
        """
        return jsonform.decode(cls, json.loads(text), "report")


def _check_hour(where: str, hour: str) -> None:
    if not _HOUR.fullmatch(hour):
        raise jsonform.MalformedFieldError.wrong(where, "a UTC hour as YYYY-MM-DDTHH", hour)
