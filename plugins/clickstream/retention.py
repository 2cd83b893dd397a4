"""How long what is kept: `retention.json` is the one place of the periods, which CDK and Kafka's topic read too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PERIODS: dict[str, int] = json.loads(Path(__file__).with_name("retention.json").read_text(encoding="utf-8"))


def _days(name: str, description: str) -> Any:  # noqa: ANN401 - what pydantic calls a field
    return Field(default=PERIODS[name], ge=1, le=36_500, description=f"1 to 36,500 days {description}")


class Retention(BaseSettings):
    """Periods in days, each from the environment variable `CLICKSTREAM_KEEP_<NAME>`, else as in `retention.json`."""

    model_config = SettingsConfigDict(env_prefix="CLICKSTREAM_KEEP_", frozen=True, env_ignore_empty=True)

    kafka_days: Annotated[int, _days("kafka", "that Kafka keeps a record")]
    raw_days: Annotated[int, _days("raw", "that landed records are kept after they are published")]
    archive_days: Annotated[int, _days("archive", "that the generator's minutes are kept")]
    events_days: Annotated[int, _days("events", "that an hour's events are kept after its end and last publication")]
    rejected_days: Annotated[int, _days("rejected", "that rejected records are kept after their batch is published")]
    attempts_days: Annotated[int, _days("attempts", "that specs, reports and staged tables of attempts are kept")]
    windows_5_days: Annotated[int, _days("windows_5", "that 5-minute windows are kept after their last publication")]
    windows_60_days: Annotated[int, _days("windows_60", "that 60-minute windows are kept after their last publication")]
    sessions_days: Annotated[int, _days("sessions", "that sessions and users are kept after their last hour")]
    ledger_days: Annotated[int, _days("ledger", "that batches, segments and drains keep rows of their own")]
    published_days: Annotated[int, _days("published_days", "that published days are kept")]
    grace_hours: Annotated[
        int, Field(default=24, ge=2, le=720, description="2 to 720 hours from when nothing names a file to its removal")
    ]
