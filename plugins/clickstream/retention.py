"""How long what is kept: the one place of periods, bounds and rules, which the stacks and Kafka's topic ask too."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEEP = "CLICKSTREAM_KEEP_"
HOURS_A_DAY = 24
LOG_DAYS = (7, 14, 30, 90)  # CloudWatch takes only certain periods
PERIODS: dict[str, int] = json.loads(Path(__file__).with_name("retention.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class AtLeast:
    """A period that must not be shorter than another one.

    Attributes:
        longer: Field of the one.
        shorter: Field of the other.
        since: Why.
    """

    longer: str
    shorter: str
    since: str


_RECOMPUTED = "as long as an hour's events are kept, a late event changes what is counted of it"
_NAMED = "a batch whose files are still there keeps a row of its own"
RULES = (
    AtLeast(longer="windows_5_days", shorter="events_days", since=_RECOMPUTED),
    AtLeast(longer="windows_60_days", shorter="events_days", since=_RECOMPUTED),
    AtLeast(longer="sessions_days", shorter="events_days", since=_RECOMPUTED),
    AtLeast(
        longer="published_days", shorter="events_days", since="a day is written anew when events of it arrive late"
    ),
    AtLeast(
        longer="ledger_days", shorter="raw_days", since="a landed file without its segment's row could not be explained"
    ),
    AtLeast(longer="ledger_days", shorter="rejected_days", since=_NAMED),
    AtLeast(longer="ledger_days", shorter="attempts_days", since=_NAMED),
    AtLeast(
        longer="raw_days", shorter="kafka_days", since="of a record's two copies Kafka's must not be the last one left"
    ),
    AtLeast(
        longer="archive_days", shorter="kafka_days", since="what Kafka has lost or deleted is refilled from the archive"
    ),
    AtLeast(
        longer="attempts_days",
        shorter="grace_hours",
        since="a task that was replaced may still use its files that long",
    ),
    AtLeast(
        longer="replaced_objects_days",
        shorter="database_snapshots_days",
        since="a restored database names objects that were removed since",
    ),
)


def _days(name: str, description: str, *, least: int = 1, most: int = 36_500) -> Any:  # noqa: ANN401 - a field's default
    return Field(default=PERIODS[name], ge=least, le=most, description=f"{least} to {most:,} days {description}")


def _one_of_cloudwatch(days: int) -> int:
    if days not in LOG_DAYS:
        raise ValueError("CloudWatch has no such period")
    return days


class Retention(BaseSettings):
    """Periods, each from the environment variable `CLICKSTREAM_KEEP_<NAME>`, else as in `retention.json`.

    The last six are for AWS, whose stacks take them when they are synthesized.
    """

    model_config = SettingsConfigDict(env_prefix=KEEP, frozen=True, env_ignore_empty=True)

    kafka_days: int = _days("kafka", "that Kafka keeps a record")
    raw_days: int = _days("raw", "that landed records are kept after they are published")
    archive_days: int = _days("archive", "that the generator's minutes are kept")
    events_days: int = _days("events", "that an hour's events are kept after its end and last publication")
    rejected_days: int = _days("rejected", "that rejected records are kept after their batch is published")
    attempts_days: int = _days("attempts", "that specs, reports and staged tables of attempts are kept")
    windows_5_days: int = _days("windows_5", "that 5-minute windows are kept after their last publication")
    windows_60_days: int = _days("windows_60", "that 60-minute windows are kept after their last publication")
    sessions_days: int = _days("sessions", "that sessions and users are kept after their last hour")
    ledger_days: int = _days("ledger", "that batches, segments and drains keep rows of their own")
    published_days: int = _days("published", "that published days are kept")
    grace_hours: int = Field(
        default=24, ge=2, le=720, description="2 to 720 hours from when nothing names a file to its removal"
    )
    archive_infrequent_days: int = _days(
        "archive_infrequent", "until the archive moves to S3's class for seldom reads", least=30
    )
    replaced_objects_days: int = _days("replaced_objects", "that S3 keeps an object that was replaced or removed")
    unfinished_uploads_days: int = _days("unfinished_uploads", "that S3 keeps the parts of an upload that never ended")
    database_snapshots_days: int = _days("database_snapshots", "that RDS can take the database back", most=35)
    logs_days: Annotated[int, AfterValidator(_one_of_cloudwatch)] = Field(
        default=PERIODS["logs"], description="7, 14, 30 or 90 days that CloudWatch keeps logs"
    )
    dead_letters_days: int = _days("dead_letters", "that a failed invocation is kept", most=14)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if broken := list(self._broken()):
            raise ValueError("\n".join(broken))
        return self

    def _broken(self) -> Iterator[str]:
        for rule in RULES:
            longer, shorter = getattr(self, rule.longer), getattr(self, rule.shorter)
            if longer * _hours(rule.longer) < shorter * _hours(rule.shorter):
                one, other = KEEP + rule.longer.upper(), KEEP + rule.shorter.upper()
                yield (
                    f"{one} is {longer} and {other} is {shorter}; the first must be at least as long as the second,"
                    f" since {rule.since}. Raise {one} or lower {other} where the stack is started."
                )


def unknown(environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """A line for each variable that would set a period if there were such a one."""
    known = [f"{KEEP}{name.upper()}" for name in Retention.model_fields]
    given = {name for name, value in environment.items() if name.startswith(KEEP) and value}
    for name in sorted(given - set(known)):
        (nearest,) = get_close_matches(name, known, n=1, cutoff=0)
        yield f"{name} is no setting; the nearest one is {nearest}. Change it where the stack is started."


def _hours(name: str) -> int:
    return HOURS_A_DAY if name.endswith("_days") else 1
