"""The archive of a test: what a Lambda would have written of the values, and all of it refilled."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from clickstream.remedies import refill
from clickstream_source.archive import write_minute
from tests.pipeline import Pipeline


def archive(pipeline: Pipeline, values: Iterable[tuple[int, bytes | None]]) -> None:
    """Write values into the files of their minutes, as a producer of their own."""
    minutes: defaultdict[datetime, list[bytes]] = defaultdict(list)
    for _, value in values:
        assert value is not None
        time = datetime.fromisoformat(json.loads(value)["eventTime"])
        minutes[time.replace(second=0, microsecond=0)].append(value)
    producer = f"lambda-{len(_files(pipeline))}"
    for minute, lines in minutes.items():
        write_minute(_url(pipeline), producer, minute, lines)


def refill_all(pipeline: Pipeline) -> refill.Refill:
    """Refill every minute that has a file."""
    names = sorted("/".join([*path.parts[-5:-1], path.name[:2]]) for path in _files(pipeline))
    first, last = (datetime.strptime(f"{name}+0000", "%Y/%m/%d/%H/%M%z") for name in (names[0], names[-1]))
    return refill.refill(
        pipeline.conn, pipeline.settings, refill.Span(first=first, last=last), producer_id=None, dry_run=False
    )


def _url(pipeline: Pipeline) -> str:
    return f"{pipeline.settings.storage_url}/archive"


def _files(pipeline: Pipeline) -> list[Path]:
    return list(Path(_url(pipeline).removeprefix("file://")).rglob("*.json"))
