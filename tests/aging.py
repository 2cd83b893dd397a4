"""A pipeline with history: batches whose records and publications lie as far back as a test wants."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from clickstream.maintenance import sweep, zones
from tests.conftest import superuser
from tests.oracle import Record
from tests.pipeline import Pipeline
from tests.records import event, purchase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspark.sql import SparkSession

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def spelled(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def batch_at(moment: datetime, first_offset: int, *, minutes: Iterable[int] = (0, 3, 50)) -> list[Record]:
    """Five records at a moment: accepted ones, a duplicate, a rejected one; offsets from the first on."""
    values: list[bytes] = []
    for number, minute in enumerate(minutes):
        name = f"{moment:%m%d%H%M}-{number}"
        make = purchase if number == 1 else event
        values.append(
            json.dumps(
                make(
                    eventId=f"e{name}",
                    userId=f"u{name[:4]}-{number % 2}",
                    sessionId=f"s{name[:6]}",
                    eventTime=spelled(moment + timedelta(minutes=minute)),
                    page=f"/p{number}",
                )
            ).encode()
        )
    values += [values[0], b"no JSON"]
    landed = int((moment + timedelta(hours=1, seconds=5)).timestamp() * 1000)
    return [Record("t", 0, first_offset + number, landed, b"s", value) for number, value in enumerate(values)]


def publish(
    pipeline: Pipeline, spark: SparkSession, moments: Sequence[datetime], *, first_offset: int = 0
) -> list[Record]:
    """Land and publish a batch for each moment; returns all records."""
    records: list[Record] = []
    for moment in moments:
        batch = batch_at(moment, first_offset + len(records))
        pipeline.land_records(batch)
        pipeline.aggregate_all(spark)
        records += batch
    return records


BACKDATE = (
    "UPDATE analytics.traffic_by_window SET published_at = window_start + interval '3 hours'",
    """
    UPDATE ledger.batches b SET created_at = s.at, published_at = CASE WHEN state = 'published' THEN s.at END
    FROM (SELECT batch_id, max(last_record_at) + interval '1 minute' AS at FROM ledger.segments GROUP BY 1) s
    WHERE s.batch_id = b.batch_id AND s.at IS NOT NULL
    """,
    """
    UPDATE ledger.attempts a SET created_at = b.created_at,
        ended_at = CASE WHEN a.ended_at IS NOT NULL THEN b.created_at END
    FROM ledger.batches b WHERE b.batch_id = a.batch_id
    """,
    """
    UPDATE ledger.drains d SET planned_at = s.last_record_at
    FROM ledger.attempts a JOIN ledger.segments s USING (attempt_id) WHERE a.drain_id = d.drain_id
    """,
)


def backdate(pipeline: Pipeline) -> None:
    """Let everything have been published soon after its records."""
    for statement in BACKDATE:
        pipeline.conn.execute(statement)


def let_grace_pass(pipeline: Pipeline) -> None:
    """Let everything that waits for its removal have waited long enough."""
    pipeline.conn.execute("UPDATE ledger.removals SET decided_at = decided_at - interval '60 days'")


def sweep_after_grace(pipeline: Pipeline) -> None:
    """What the daily maintenance does with files that nothing names, once the grace is over."""
    zones.sweep_dead(pipeline.conn, pipeline.settings, dry_run=False)
    let_grace_pass(pipeline)
    sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False)


def mark_days_published(pipeline: Pipeline) -> None:
    """Call every day published for analysts with the events it has."""
    pipeline.conn.execute(
        "INSERT INTO ledger.published_days (day, events, erasures_seen)"
        " SELECT (hour AT TIME ZONE 'UTC')::date, sum(records), 0 FROM ledger.event_files WHERE live GROUP BY 1"
        " ON CONFLICT (day) DO UPDATE SET events = excluded.events"
    )


def files(pipeline: Pipeline, zone: str) -> set[str]:
    """URLs of the files of a zone that are there."""
    root = Path(pipeline.settings.storage_url.removeprefix("file://")) / zone
    return {f"file://{path}" for path in root.rglob("*") if path.is_file() and not _is_checksum(path)}


def _is_checksum(path: Path) -> bool:
    """Whether it is Hadoop's checksum of a file that is there; one that is left behind is litter."""
    return path.suffix == ".crc" and path.with_name(path.stem.removeprefix(".")).exists()


def named(pipeline: Pipeline) -> set[str]:
    """URLs of raw and event files that the ledger names."""
    rows = pipeline.conn.execute(
        "SELECT path FROM ledger.segments WHERE path IS NOT NULL UNION SELECT path FROM ledger.event_files WHERE live"
    )
    return {path for (path,) in rows}


def assert_files_are_as_named(pipeline: Pipeline) -> None:
    """No file missing and no litter in the zones that the ledger names file by file."""
    assert files(pipeline, "raw") | files(pipeline, "events") == named(pipeline)


def assert_no_litter(pipeline: Pipeline) -> None:
    """After the grace: nothing waits, files are as named, and folders are those of published attempts."""
    assert pipeline.one("SELECT count(*) FROM ledger.removals") == 0
    assert_files_are_as_named(pipeline)
    kept = {
        str(one) for (one,) in pipeline.conn.execute("SELECT attempt_id FROM ledger.attempts WHERE state = 'committed'")
    }
    for zone in ("rejected", "batches"):
        assert {url.split(f"/{zone}/")[1].split("/")[0] for url in files(pipeline, zone)} <= kept, zone


def copy(original: Pipeline, name: str) -> Pipeline:
    """A database and a folder with what another pipeline has; the other must have no connection open."""
    source = Path(original.settings.storage_url.removeprefix("file://"))
    storage = source.with_name(name)
    shutil.copytree(source, storage)
    with superuser(original.stack) as conn:
        conn.execute(f"CREATE DATABASE {name} OWNER clickstream_owner TEMPLATE {original.settings.topic}")
    made = Pipeline.create(original.stack, database=name, topic=name, storage=storage)
    for table in ("segments", "event_files"):
        made.conn.execute(
            f"UPDATE ledger.{table} SET path = replace(path, %s, %s)", [f"file://{source}", f"file://{storage}"]
        )
    made.conn.execute("UPDATE ledger.partitions SET topic = %s", [name])
    return made


def drop(pipeline: Pipeline) -> None:
    """Remove a pipeline's database and folder."""
    pipeline.close()
    with superuser(pipeline.stack) as conn:
        conn.execute(f"DROP DATABASE {pipeline.settings.topic} WITH (FORCE)")
    shutil.rmtree(pipeline.settings.storage_url.removeprefix("file://"))
