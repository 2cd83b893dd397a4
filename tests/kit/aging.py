"""A pipeline with history: batches whose records and publications lie as far back as a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from clickstream.ledger import partitions
from clickstream.maintenance import hours, sweep, zones
from tests.kit.pipeline import Pipeline
from tests.kit.records import event, purchase
from tests.oracle import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyspark.sql import SparkSession

    from clickstream.maintenance.outcome import Outcome

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
LONG_AGO = TODAY - 100 * DAY + timedelta(hours=12)
MOMENTS = [LONG_AGO, LONG_AGO + timedelta(minutes=7), LONG_AGO + DAY, TODAY - 2 * DAY, TODAY - timedelta(hours=3)]
HOURLY = (partitions.SESSION_HOURS, partitions.USERS_BY_HOUR)


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


def again(pipeline: Pipeline, *, dry_run: bool = False) -> list[Outcome]:
    """The steps that retire what is old, once more."""
    steps: list[Callable[..., Outcome]] = [
        hours.retire_hours, zones.retire_raw, zones.retire_rejected, zones.retire_attempts, zones.sweep_dead,
    ]  # fmt: skip
    if not dry_run:
        hours.retire_hours(pipeline.conn, pipeline.settings, dry_run=False)
    return [step(pipeline.conn, pipeline.settings, dry_run=dry_run) for step in steps]


def partition(pipeline: Pipeline, *starts: datetime, years: Iterable[datetime] = ()) -> None:
    """Make partitions for months, and for years, of the past."""
    with pipeline.superuser() as conn:
        conn.execute("SET ROLE clickstream_owner")
        for start in starts:
            for table in (*(f"{name}_5" for name in partitions.WINDOWS), *HOURLY):
                conn.execute(
                    "SELECT analytics.add_partition(%s, %s, (%s AT TIME ZONE 'UTC' + interval '1 month')"
                    " AT TIME ZONE 'UTC')",
                    [table, start, start],
                )
        for start in years:
            for name in partitions.WINDOWS:
                conn.execute(
                    "SELECT analytics.add_partition(%s, %s, %s)",
                    [f"{name}_60", start, start.replace(year=start.year + 1)],
                )
