"""The archive of a test: what a Lambda would have written of the values, refilled as the runbooks say."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from psycopg.rows import dict_row

from clickstream.remedies import refill
from clickstream_source.archive import write_minute
from tests.kit.pipeline import Pipeline

PROCEDURES = Path(__file__).parents[2] / "docs" / "runbooks" / "procedures"


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


def refill_as_told(pipeline: Pipeline, procedure: str) -> refill.Refill:
    """Refill the minutes that the query of a procedure's page gives."""
    page = PROCEDURES / f"{procedure}.md"
    [query] = [
        query
        for query in re.findall(r"```sql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        if "AS from_minute" in query
    ]
    with pipeline.conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query).fetchall()
    first, last = min(row["from_minute"] for row in rows), max(row["to_minute"] for row in rows)
    span = refill.Span.parse(first.isoformat(), last.isoformat())
    return refill.refill(pipeline.conn, pipeline.settings, span, producer_id=None, dry_run=False)


def _url(pipeline: Pipeline) -> str:
    return f"{pipeline.settings.storage_url}/archive"


def _files(pipeline: Pipeline) -> list[Path]:
    return list(Path(_url(pipeline).removeprefix("file://")).rglob("*.json"))
