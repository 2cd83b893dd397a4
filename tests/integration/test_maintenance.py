"""Maintenance lets go of what is old, and of nothing else; every equation holds on the way."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.errors import IntegrityError, LockNotAvailable

from clickstream.errors import OutputMismatch, RemovalFailed, RetentionRefused, StaleBase
from clickstream.ledger import batches, drains, folding, removals, retirement, rewrites
from clickstream.ledger.publishing import lock_analytics
from clickstream.maintenance import archive, compaction, hours, rows, steps, sweep, zones
from clickstream.remedies import refill
from tests import oracle
from tests.kit import aging
from tests.kit.aging import DAY, LONG_AGO, TODAY, again, partition
from tests.kit.pipeline import RUN, Pipeline
from tests.kit.records import HISTORIC
from tests.kit.rollback import RolledBack
from tests.oracle import Record

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from clickstream.maintenance.outcome import Outcome

Begun = tuple[Pipeline, list[Record], UUID]
LATE = 8  # records of its batch
LEDGER = ("segments", "batches", "attempts", "event_files", "retired_hours", "removals", "rejections", "drains")


def counts(pipeline: Pipeline) -> dict[str, int]:
    return {table: pipeline.one(f"SELECT count(*) FROM ledger.{table}") for table in LEDGER}


def snapshot(pipeline: Pipeline) -> tuple[Any, ...]:
    rows_of = [pipeline.conn.execute(f"SELECT * FROM ledger.{table} ORDER BY 1, 2").fetchall() for table in LEDGER]
    return (*map(str, rows_of), aging.files(pipeline, ""))


@pytest.fixture
def history(written: tuple[Pipeline, list[Record]]) -> Iterator[tuple[Pipeline, list[Record]]]:
    """A copy of it for each test."""
    pipeline = written[0].copied()
    yield pipeline, written[1]
    pipeline.drop()


@pytest.fixture(scope="module")
def transformed(written: tuple[Pipeline, list[Record]], spark: SparkSession) -> Iterator[Begun]:
    """That history, and an attempt at a batch of late events of two hours, to be published; one before it is dead."""
    pipeline, records = written[0].copied(), list(written[1])
    landed_at = records[-1].timestamp_ms
    for hour in (LONG_AGO, LONG_AGO + DAY):
        late = aging.batch_at(hour, len(records), minutes=(0, 9))  # two duplicates, an event, and no event
        records += [Record("t", 0, one.offset, landed_at, one.key, one.value, HISTORIC) for one in late]
    pipeline.land_records(records[-LATE:])
    batch_id = pipeline.claim()
    assert batch_id
    pipeline.begin(batch_id)
    attempt_id = pipeline.begin(batch_id)
    pipeline.transform(spark, attempt_id)
    pipeline.close()
    yield pipeline, records, attempt_id
    pipeline.drop()


@pytest.fixture
def begun(transformed: Begun) -> Iterator[Begun]:
    """A copy of it for each test."""
    pipeline = transformed[0].copied()
    yield pipeline, *transformed[1:]
    pipeline.drop()


@pytest.fixture
def remembered(written: tuple[Pipeline, list[Record]]) -> Iterator[tuple[RolledBack, list[Record]]]:
    """The history itself, of whose files none may go; what is written to its ledger is taken back."""
    with RolledBack.on_that_of(written[0]) as pipeline:
        yield pipeline, written[1]


@pytest.fixture
def empty(rolled_back: RolledBack, tmp_path: Path) -> RolledBack:
    """An empty ledger, to which nothing is written for good, and a folder of the test's own."""
    rolled_back.use(storage_url=tmp_path.as_uri())
    return rolled_back


def retire(pipeline: Pipeline, *, dry_run: bool = False) -> Outcome:
    return hours.retire_hours(pipeline.conn, pipeline.settings, dry_run=dry_run)


def test_old_days_retire_as_a_whole_and_their_files_go_after_the_grace(
    history: tuple[Pipeline, list[Record]], spark: SparkSession
) -> None:
    pipeline, records = history
    before = aging.files(pipeline, "events")
    outcome = retire(pipeline)
    assert outcome.items == 48
    assert pipeline.one("SELECT count(*) FROM ledger.retired_hours") == 48
    assert pipeline.one("SELECT sum(events)::int FROM ledger.retired_hours") == 9
    assert pipeline.unaccounted() == {}
    assert aging.files(pipeline, "events") == before  # a grace
    assert sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False).items == 0
    aging.let_grace_pass(pipeline)
    assert sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False).items == 3
    aging.assert_files_are_as_named(pipeline)
    assert retire(pipeline).items == 0
    again(pipeline)
    assert rows.fold_ledger(pipeline.conn, pipeline.settings, dry_run=False).items == 2
    late = aging.batch_at(LONG_AGO + timedelta(hours=5), len(records))  # an hour that had no event is retired too
    pipeline.land_records(late)
    pipeline.conn.execute("UPDATE ledger.segments SET historic = records WHERE batch_id IS NULL")
    pipeline.aggregate_all(spark)
    assert pipeline.one("SELECT late FROM ledger.batches ORDER BY batch_id DESC LIMIT 1") == 4
    assert pipeline.unaccounted() == {}
    assert sum(pipeline.dispositions().values()) == len(records) + len(late)


def test_windows_of_retired_hours_stay_as_the_oracle_says(remembered: tuple[RolledBack, list[Record]]) -> None:
    pipeline, records = remembered
    retire(pipeline)
    expected = oracle.fold(records)
    for name in ("traffic", "pages", "audience", "funnel", "revenue", "sessions"):
        assert pipeline.table(name) == getattr(expected, name), name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE analytics.traffic_by_window SET published_at = now() WHERE window_minutes = 60", "published lately"),
        ("UPDATE ledger.published_days SET events = events - 1", "analysts don't have all of it"),
        ("UPDATE ledger.published_days SET erasures_seen = 1", "analysts have it as it was before an erasure"),
        ("DELETE FROM ledger.published_days", "analysts don't have it"),
    ],
)
def test_a_day_stays_when(remembered: tuple[RolledBack, list[Record]], change: str, why: str) -> None:
    pipeline, _ = remembered
    pipeline.conn.execute(change)
    assert retire(pipeline).items == 0, why
    assert pipeline.one("SELECT count(*) FROM ledger.retired_hours") == 0


def test_a_day_stays_while_a_record_of_its_time_may_be_unpublished(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, _ = history
    behind = aging.batch_at(LONG_AGO + timedelta(minutes=30), 0)
    pipeline.land_records([Record("t", 1, one.offset, one.timestamp_ms, one.key, one.value) for one in behind])
    assert retire(pipeline).items == 0
    pipeline.conn.execute("UPDATE ledger.segments SET batch_id = 1 WHERE batch_id IS NULL")  # which is published
    assert retire(pipeline).items == 0


def test_a_day_stays_while_nothing_is_known_of_a_partition(remembered: tuple[RolledBack, list[Record]]) -> None:
    pipeline, _ = remembered
    topic, now = pipeline.settings.topic, datetime.now(UTC)
    drains.adopt(pipeline.conn, topic=topic, topic_id="t", partition=1, first_offset=0, observed_at=now)
    outcome = retire(pipeline)
    assert outcome.items == 0
    assert "a partition has no watermark yet" in outcome.lines[0]


@pytest.mark.parametrize("seconds", [math.inf, 90 * 86_400])
def test_events_must_outlive_the_topic(remembered: tuple[RolledBack, list[Record]], seconds: float) -> None:
    pipeline, _ = remembered
    pipeline.conn.execute("UPDATE ledger.partitions SET retention_seconds = %s", [seconds])
    with pytest.raises(RetentionRefused, match="CLICKSTREAM_KEEP_EVENTS_DAYS=90 is too short"):
        retire(pipeline)


def test_the_zones_of_the_ledger_age(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, _ = history
    conn, settings = pipeline.conn, pipeline.settings
    assert zones.retire_raw(conn, settings, dry_run=False).items == 3
    assert zones.retire_rejected(conn, settings, dry_run=False).items == 3
    assert zones.retire_attempts(conn, settings, dry_run=False).items == 3
    assert pipeline.unaccounted() == {}
    assert pipeline.one("SELECT count(*) FROM ledger.rejections") == 2
    assert pipeline.one("SELECT sum(records)::int FROM ledger.rejected_counts") == 5
    aging.let_grace_pass(pipeline)
    assert sweep.sweep(conn, settings, dry_run=False).items == 9
    aging.assert_files_are_as_named(pipeline)
    kept = {str(one) for (one,) in conn.execute("SELECT attempt_id FROM ledger.attempts WHERE batch_id > 3")}
    for zone in ("rejected", "batches"):
        assert {url.split("/")[-2] for url in aging.files(pipeline, zone) if zone == "rejected"} <= kept
        root = Path(settings.storage_url.removeprefix("file://")) / zone
        assert {folder.name for folder in root.iterdir()} == kept
    assert [one.items for one in again(pipeline)] == [0, 0, 0, 0, 0]


def test_what_is_not_published_keeps_its_raw_file(pipeline: Pipeline) -> None:
    pipeline.land_records(aging.batch_at(LONG_AGO, 0))
    pipeline.conn.execute("UPDATE ledger.drains SET planned_at = now() - interval '100 days'")
    assert zones.retire_raw(pipeline.conn, pipeline.settings, dry_run=False).items == 0
    assert pipeline.claim()
    pipeline.conn.execute("UPDATE ledger.batches SET created_at = now() - interval '100 days'")
    assert zones.retire_raw(pipeline.conn, pipeline.settings, dry_run=False).items == 0
    rows.fold_ledger(pipeline.conn, pipeline.settings, dry_run=False)
    assert pipeline.one("SELECT count(*) FROM ledger.drains") == 1
    aging.assert_files_are_as_named(pipeline)


def test_old_batches_are_added_up_and_every_equation_holds(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, _ = history
    totals = pipeline.conn.execute("SELECT * FROM ledger.totals ORDER BY 1, 2").fetchall()
    before = pipeline.dispositions(), pipeline.reasons(), pipeline.id_conflicts()
    offsets = pipeline.one("SELECT sum(end_offset - first_offset)::int FROM ledger.segments")
    assert rows.fold_ledger(pipeline.conn, pipeline.settings, dry_run=False).items == 0  # raw files are still there
    again(pipeline)
    assert rows.fold_ledger(pipeline.conn, pipeline.settings, dry_run=True).items == 2
    assert rows.fold_ledger(pipeline.conn, pipeline.settings, dry_run=False).items == 2
    assert pipeline.conn.execute("SELECT batch_id, folded FROM ledger.batches ORDER BY 1").fetchall() == [
        (3, 2), (4, 0), (5, 0),
    ]  # fmt: skip
    assert pipeline.one("SELECT count(*) FROM ledger.segments") == 3
    assert pipeline.one("SELECT count(*) FROM ledger.drains") == 2
    assert pipeline.one("SELECT sum(end_offset - first_offset)::int FROM ledger.segments") == offsets
    assert (pipeline.dispositions(), pipeline.reasons(), pipeline.id_conflicts()) == before
    assert pipeline.unaccounted() == {}
    assert pipeline.conn.execute("SELECT * FROM ledger.totals ORDER BY 1, 2").fetchall() == totals
    assert rows.fold_ledger(pipeline.conn, pipeline.settings, dry_run=False).items == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger.batches SET published_at = now() WHERE batch_id = 2",
        "UPDATE ledger.batches SET rejected_retired_at = NULL WHERE batch_id = 2",
        "UPDATE ledger.segments SET path = 'file:///a', bytes = 1, file_retired_at = NULL WHERE batch_id = 2",
        "UPDATE ledger.attempts SET swept_at = NULL WHERE batch_id = 2",
    ],
)
def test_a_batch_keeps_its_rows_and_those_after_it_theirs_while(
    remembered: tuple[RolledBack, list[Record]], change: str
) -> None:
    pipeline, _ = remembered
    again(pipeline)
    keep = pipeline.settings.retention.ledger_days
    assert folding.foldable(pipeline.conn, keep) == [1, 2, 3]
    pipeline.conn.execute(change)
    assert folding.foldable(pipeline.conn, keep) == [1]


def test_rows_stay_until_the_files_that_they_explain_are_swept(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, records = history
    conn, keep = pipeline.conn, pipeline.settings.retention.ledger_days
    again(pipeline)
    assert folding.old_drains(conn, keep) == 0  # their attempts still have segments
    folding.fold(conn, [1, 2, 3])
    assert folding.old_drains(conn, keep) == 3
    conn.execute("UPDATE ledger.attempts SET swept_at = NULL WHERE drain_id = 1")
    assert folding.old_drains(conn, keep) == 2

    pipeline.land_records(aging.batch_at(LONG_AGO, len(records)))
    batch_id = pipeline.claim()
    assert batch_id
    pipeline.begin(batch_id)
    batches.release(conn, batch_id, dry_run=False)
    conn.execute("UPDATE ledger.batches SET created_at = now() - interval '100 days' WHERE batch_id = %s", [batch_id])
    assert folding.forget_released(conn, keep) == 0
    conn.execute("UPDATE ledger.attempts SET swept_at = now()")
    assert folding.forget_released(conn, keep) == 1

    attempt_id = rewrites.register(conn, kind="compaction", subject="an hour", dag_run_id=RUN)
    rewrites.abandon(conn, attempt_id)
    conn.execute("UPDATE ledger.rewrites SET ended_at = now() - interval '100 days'")
    assert folding.forget_rewrites(conn, keep) == 0
    conn.execute("UPDATE ledger.rewrites SET swept_at = now()")
    assert folding.forget_rewrites(conn, keep) == 1


def test_a_fold_waits_for_who_publishes(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, _ = history
    again(pipeline)
    pipeline.conn.execute("SET lock_timeout = '200ms'")
    with pipeline.connect() as other, other.transaction():
        lock_analytics(other)
        with pytest.raises(LockNotAvailable):
            folding.fold(pipeline.conn, [1, 2, 3])
    folding.fold(pipeline.conn, [1, 2, 3])


def test_a_fold_can_not_leave_a_gap(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, _ = history
    again(pipeline)
    with pytest.raises(IntegrityError, match=r"segments_begin_with_partition|segments_contiguous"):
        folding.fold(pipeline.conn, [2, 3])
    assert pipeline.unaccounted() == {}


def test_a_dry_run_lists_and_changes_nothing(remembered: tuple[RolledBack, list[Record]]) -> None:
    pipeline, _ = remembered
    before = snapshot(pipeline)
    would = again(pipeline, dry_run=True)
    assert [one.items for one in would] == [48, 3, 3, 3, 0]
    assert [one.bytes > 0 for one in would] == [True, True, True, True, False]
    rows.fold_ledger(pipeline.conn, pipeline.settings, dry_run=True)
    sweep.sweep(pipeline.conn, pipeline.settings, dry_run=True)
    compaction.compact(pipeline.conn, pipeline.settings, RUN, dry_run=True)
    assert snapshot(pipeline) == before


def test_a_dry_run_of_all_steps_names_what_the_run_then_does(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, _ = history
    conn = pipeline.conn
    partition(pipeline, *{moment.replace(day=1, hour=0) for moment in (LONG_AGO, LONG_AGO + DAY)})
    shorter = dict.fromkeys(("events_days", "windows_5_days", "sessions_days", "published_days", "ledger_days"), 30)
    pipeline.use(retention=pipeline.settings.retention.model_copy(update=shorter))
    conn.execute("DELETE FROM ledger.published_days")
    conn.execute(  # as the paths of the copied files say
        "UPDATE ledger.partitions SET topic = split_part(split_part(s.path, '/raw/', 2), '/', 1) FROM ledger.segments s"
    )
    conn.execute(
        "INSERT INTO ledger.attempts (batch_id, attempt, state, dag_run_id) SELECT 1, 9, 'dead', %s", [RUN]
    )  # beside the one that was published
    drains.adopt(conn, topic=pipeline.settings.topic, topic_id="t", partition=1, first_offset=0, observed_at=LONG_AGO)
    conn.execute("UPDATE ledger.partitions SET closed_at = now() WHERE partition = 1")
    conn.execute("INSERT INTO ledger.drain_ranges SELECT min(drain_id), 't', 1, 0, 1 FROM ledger.drains")
    before = everything(pipeline)
    would = run_all(pipeline, dry_run=True)
    assert everything(pipeline) == before
    done = run_all(pipeline, dry_run=False)
    assert {name: one["items"] for name, one in would.items()} == {name: one["items"] for name, one in done.items()}
    for name, one in done.items():
        assert one["bytes"] in {0, would[name]["bytes"]}, name
    idle = {name for name, one in done.items() if not one["items"]}
    assert idle == {"add_partitions", "retire_archive", "sweep"}


def run_all(pipeline: Pipeline, *, dry_run: bool) -> dict[str, dict[str, Any]]:
    return {name: steps.run(name, pipeline.conn, pipeline.settings, dry_run=dry_run) for name in steps.STEPS}


def everything(pipeline: Pipeline) -> tuple[Any, ...]:
    """What a dry run must not change."""
    more = [
        pipeline.conn.execute(f"SELECT * FROM {table} t ORDER BY t::text").fetchall()
        for table in ("ledger.published_days", "ledger.rewrites", "ledger.result_partitions", "analytics.sessions")
    ]
    return (*snapshot(pipeline), *more)


def test_a_dry_run_says_which_earlier_step_would_fail(remembered: tuple[RolledBack, list[Record]]) -> None:
    pipeline, _ = remembered
    pipeline.conn.execute("UPDATE ledger.partitions SET retention_seconds = 'infinity'")
    before = everything(pipeline)
    would = steps.run("remove_windows", pipeline.conn, pipeline.settings, dry_run=True)
    assert would["items"] == 0
    assert would["lines"][0].startswith("retire_hours would fail: CLICKSTREAM_KEEP_EVENTS_DAYS=90 is too short")
    assert everything(pipeline) == before


def test_a_dry_run_buries_rewrites_only_to_look(empty: RolledBack) -> None:
    rewrites.register(empty.conn, kind="compaction", subject="an hour", dag_run_id=RUN)
    empty.conn.execute("UPDATE ledger.rewrites SET created_at = now() - interval '25 hours'")
    assert zones.sweep_dead(empty.conn, empty.settings, dry_run=True).items == 1
    assert empty.one("SELECT state FROM ledger.rewrites") == "open"
    assert zones.sweep_dead(empty.conn, empty.settings, dry_run=False).items == 1


def test_dead_attempts_are_swept_and_nothing_else(begun: Begun) -> None:
    pipeline, _, alive = begun
    dead = pipeline.one("SELECT attempt_id FROM ledger.attempts WHERE state = 'dead'")
    for zone in ("events", "rejected"):  # its spec is in the third
        shutil.copytree(pipeline.folder / zone / str(alive), pipeline.folder / zone / str(dead))
    conn, settings = pipeline.conn, pipeline.settings
    assert zones.sweep_dead(conn, settings, dry_run=False).items == 3
    assert sweep.sweep(conn, settings, dry_run=False).items == 0
    aging.let_grace_pass(pipeline)
    assert sweep.sweep(conn, settings, dry_run=False).items == 3
    assert not [url for url in aging.files(pipeline, "") if str(dead) in url]
    assert [url for url in aging.files(pipeline, "events") if str(alive) in url]
    assert pipeline.publish(alive)
    aging.assert_files_are_as_named(pipeline)
    assert pipeline.unaccounted() == {}


def test_a_file_of_a_range_that_another_attempt_landed_is_swept(pipeline: Pipeline) -> None:
    pipeline.partitions = 1
    pipeline.create_topic()
    pipeline.produce([(0, b"no JSON")])
    (drain_id,) = pipeline.plan()
    slow = pipeline.land(drain_id)
    pipeline.commit([pipeline.land(drain_id)])
    with pytest.raises(Exception, match="came too late"):
        pipeline.commit([slow])
    assert len(aging.files(pipeline, "raw")) == 2
    assert zones.sweep_dead(pipeline.conn, pipeline.settings, dry_run=False).items == 1
    aging.let_grace_pass(pipeline)
    sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False)
    aging.assert_files_are_as_named(pipeline)
    assert pipeline.unaccounted() == {}


def test_of_an_attempt_that_landed_some_of_its_ranges_the_other_files_are_swept(pipeline: Pipeline) -> None:
    pipeline.partitions = 2
    pipeline.create_topic()
    pipeline.produce([(0, b"no JSON"), (1, b"no JSON")])
    pipeline.plan()
    conn, topic = pipeline.conn, pipeline.settings.topic
    topic_id = pipeline.one("SELECT topic_id::text FROM ledger.partitions WHERE partition = 0")
    spans = [
        drains.Range(topic=topic, topic_id=topic_id, partition=partition, first_offset=0, end_offset=1)
        for partition in range(2)
    ]
    drain_id = drains.register_drain(conn, spans, RUN)
    one, other = pipeline.land(drain_id), pipeline.land(drain_id)
    pipeline.commit([one])
    [(path,)] = conn.execute("SELECT path FROM ledger.segments WHERE partition = 1").fetchall()
    values = {"one": one, "other": other, "path": path.replace(str(one), str(other))}
    conn.execute("UPDATE ledger.attempts SET state = 'committed' WHERE attempt_id = %(other)s", values)
    conn.execute("UPDATE ledger.segments SET path = %(path)s, attempt_id = %(other)s WHERE partition = 1", values)
    kept = conn.execute("SELECT path FROM ledger.segments WHERE partition = 0").fetchone()
    assert kept
    beside = Path(kept[0].removeprefix("file://")).with_name("litter.parquet")
    beside.touch()
    assert zones.sweep_dead(conn, pipeline.settings, dry_run=False).items == 3
    aging.let_grace_pass(pipeline)
    assert sweep.sweep(conn, pipeline.settings, dry_run=False).items == 3
    assert pipeline.one("SELECT count(*) FROM ledger.removals") == 0
    aging.assert_files_are_as_named(pipeline)


def test_a_rewrite_is_dead_when_it_is_open_for_longer_than_the_grace(empty: RolledBack) -> None:
    conn = empty.conn
    rewrites.register(conn, kind="compaction", subject="an hour", dag_run_id=RUN)
    retirement.settle_attempts(conn, 24)
    assert empty.one("SELECT state FROM ledger.rewrites") == "open"
    conn.execute("UPDATE ledger.rewrites SET created_at = now() - interval '25 hours'")
    retirement.settle_attempts(conn, 24)
    assert empty.one("SELECT state FROM ledger.rewrites") == "dead"


def test_what_the_open_batch_may_read_is_never_removed(begun: Begun) -> None:
    pipeline, _, attempt_id = begun
    batch_id = pipeline.one("SELECT batch_id FROM ledger.batches WHERE state = 'open'")
    pipeline.conn.execute("UPDATE ledger.attempts SET created_at = now() - interval '90 days' WHERE state = 'open'")
    pipeline.conn.execute("UPDATE ledger.partitions SET retention_seconds = 0")
    pipeline.conn.execute(
        "UPDATE ledger.segments SET first_record_at = now(), last_record_at = now() WHERE batch_id = %s", [batch_id]
    )
    retire(pipeline)
    removed = {path for (path,) in pipeline.conn.execute("SELECT path FROM ledger.removals")}
    assert len(removed) == 3
    aging.let_grace_pass(pipeline)
    assert sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False).items == 0
    read = {file.path for file in pipeline.spec(attempt_id).event_files}
    assert removed <= read <= aging.files(pipeline, "events")
    with pytest.raises(StaleBase):
        pipeline.publish(attempt_id)
    assert not removed & {file.path for file in pipeline.spec(pipeline.begin(batch_id)).event_files}
    assert sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False).items == 3
    assert pipeline.unaccounted() == {}


def test_what_the_ledger_names_is_never_swept(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, _ = history
    named = [removals.Removal(path=path, zone="events") for path in aging.named(pipeline)]
    removals.decide(pipeline.conn, named, reason="dead")
    aging.let_grace_pass(pipeline)
    assert sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False).items == 0
    aging.assert_files_are_as_named(pipeline)
    live = pipeline.one("SELECT count(*) FROM ledger.event_files WHERE live")
    removals.forget(pipeline.conn, [one.path for one in named])
    assert pipeline.one("SELECT count(*) FROM ledger.event_files WHERE live") == live


def test_what_can_not_be_removed_is_named_and_holds_up_no_other(
    empty: RolledBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "CHUNK", 2)
    monkeypatch.setattr(sweep, "MOST_NAMED", 1)
    root = Path(empty.settings.storage_url.removeprefix("file://"))
    for folder in ("a", "b"):  # which can't be removed as the files that the ledger takes them for
        (root / folder).mkdir()
    for file in ("c", "d", "e"):
        (root / file).write_bytes(b"xx")
    due = [removals.Removal(path=f"file://{root}/{name}", zone="events") for name in "abcde"]
    removals.decide(empty.conn, due, reason="replaced")
    aging.let_grace_pass(empty)
    with pytest.raises(RemovalFailed) as refused:
        sweep.sweep(empty.conn, empty.settings, dry_run=False)
    said = str(refused.value)
    assert "refused 2 files and folders" in said
    assert f"file://{root}/a: IsADirectoryError: " in said
    assert f"file://{root}/b" not in said
    assert "and 1 more" in said
    assert "files and folders removed: 3 (6 bytes)" in said
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]
    assert empty.one("SELECT array_agg(right(path, 1) ORDER BY path) FROM ledger.removals") == ["a", "b"]
    for folder in ("a", "b"):
        (root / folder).rmdir()
    assert sweep.sweep(empty.conn, empty.settings, dry_run=False).items == 2


def archive_of(pipeline: Pipeline) -> Path:
    return Path(pipeline.settings.storage_url.removeprefix("file://")) / "archive" / "clickstream"


def archive_minute(pipeline: Pipeline, day: datetime, name: str = "00-p.json") -> Path:
    path = archive_of(pipeline) / f"{day:%Y/%m/%d/%H}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}\n")
    return path


def test_old_days_of_the_archive_go_unless_a_refill_reads_it(empty: RolledBack) -> None:
    today = datetime.now(UTC)
    days = [today - 401 * DAY, today - 400 * DAY, today]
    for day in days:
        archive_minute(empty, day)
    conn, settings = empty.conn, empty.settings
    would = archive.retire_archive(conn, settings, dry_run=True)
    assert (would.lines, would.bytes) == ([f"{days[0].date()}"], 3)
    assert archive.retire_archive(conn, settings, dry_run=False).items == 1
    for dry_run in (True, False):  # it waits already
        again = archive.retire_archive(conn, settings, dry_run=dry_run)
        assert (again.items, again.bytes, again.lines) == (0, 0, [])
    aging.let_grace_pass(empty)
    with empty.connect() as other, refill._reading_the_archive(other):
        outcome = sweep.sweep(conn, settings, dry_run=False)
        assert (outcome.items, len(aging.files(empty, "archive"))) == (0, 3)
        assert "the archive waits: a refill reads it" in outcome.lines
    assert sweep.sweep(conn, settings, dry_run=False).bytes == 3
    assert [day for day, _ in archive.archived(settings)] == [day.date() for day in days[1:]]


def test_a_month_and_a_year_go_with_their_last_day(empty: RolledBack) -> None:
    for ago in (900, 500, 0):
        archive_minute(empty, TODAY - ago * DAY)
    archive.retire_archive(empty.conn, empty.settings, dry_run=False)
    aging.let_grace_pass(empty)
    assert sweep.sweep(empty.conn, empty.settings, dry_run=False).items == 2
    assert [year.name for year in archive_of(empty).iterdir()] == [f"{TODAY:%Y}"]


def test_what_is_no_date_stops_no_retention_of_the_archive(empty: RolledBack) -> None:
    old = TODAY - 401 * DAY
    archive_minute(empty, old)
    strange = ["2021/99", "2021/02/30", "2021/2", "0000", "lost+found", f"{old:%Y/%m}/99", f"{TODAY:%Y/%m}/32"]
    for name in strange:
        (archive_of(empty) / name / "01").mkdir(parents=True)
    outcome = archive.retire_archive(empty.conn, empty.settings, dry_run=False)
    assert outcome.items == 1
    assert {line for line in outcome.lines if "is no day" in line} == {
        f"file://{archive_of(empty)}/{name} is no day of the archive and stays; move it elsewhere" for name in strange
    }


def test_what_a_killed_generator_left_in_the_archive_goes_after_the_grace(empty: RolledBack) -> None:
    moment = datetime.now(UTC) - timedelta(hours=empty.settings.retention.grace_hours + 1)
    whole, old, fresh, long_ago = (
        archive_minute(empty, day, name)
        for day, name in (
            (moment, "07-p.json"),
            (moment, f".07-p.json.{uuid4().hex}.tmp"),
            (moment, f".07-p.json.{uuid4().hex}.tmp"),
            (TODAY - 390 * DAY, f".07-p.json.{uuid4().hex}.tmp"),
        )
    )
    for path in (whole, old, long_ago):
        os.utime(path, (moment.timestamp(), moment.timestamp()))
    said = ["1 files whose writer was killed"]
    assert archive.retire_archive(empty.conn, empty.settings, dry_run=True).lines == said
    assert old.exists()
    assert archive.retire_archive(empty.conn, empty.settings, dry_run=False).lines == said
    assert [path.exists() for path in (whole, old, fresh, long_ago)] == [True, False, True, True]


def compact(pipeline: Pipeline) -> Outcome:
    return compaction.compact(pipeline.conn, pipeline.settings, RUN, dry_run=False)


def test_a_closed_hour_is_compacted_and_a_batch_beside_it_reads_anew(begun: Begun, spark: SparkSession) -> None:
    pipeline, records, attempt_id = begun
    assert compact(pipeline).items == 2
    assert pipeline.one("SELECT count(*) FROM ledger.event_files WHERE live") == 4
    pipeline.assert_equals_oracle(records[:-LATE])
    with pytest.raises(StaleBase):
        pipeline.publish(attempt_id)
    aging.let_grace_pass(pipeline)
    assert sweep.sweep(pipeline.conn, pipeline.settings, dry_run=False).items == 2
    assert compact(pipeline).items == 0
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(records)
    aging.sweep_after_grace(pipeline)
    aging.assert_files_are_as_named(pipeline)


def test_files_of_before_and_after_a_new_field_are_compacted(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, records = history
    old, new = (Path(file.path.removeprefix("file://")) for file in rewrites.live_files(pipeline.conn, LONG_AGO))
    pq.write_table(pq.read_table(old).drop_columns(["referrer"]), old)
    events = pq.read_table(new)
    pq.write_table(events.append_column("campaign", [pa.array(["spring"] * len(events))]), new)
    assert compact(pipeline).items == 2
    [file] = rewrites.live_files(pipeline.conn, LONG_AGO)
    compacted = pq.read_table(file.path.removeprefix("file://"))
    assert compacted["campaign"].to_pylist() == [None] * (6 - len(events)) + ["spring"] * len(events)
    assert set(events.column_names) == set(compacted.column_names) - {"campaign"}
    pipeline.assert_equals_oracle(records)


def test_an_hour_without_one_of_its_files_holds_up_no_other(begun: Begun) -> None:
    pipeline, _, attempt_id = begun
    pipeline.publish(attempt_id)
    Path(rewrites.live_files(pipeline.conn, LONG_AGO)[0].path.removeprefix("file://")).unlink()
    with pytest.raises(OutputMismatch, match=f"{LONG_AGO:%Y-%m-%dT%H}: .*No such file"):
        compact(pipeline)
    assert len(rewrites.live_files(pipeline.conn, LONG_AGO)) == 3
    assert len(rewrites.live_files(pipeline.conn, LONG_AGO + DAY)) == 1


def test_an_open_hour_is_left_alone_and_a_recent_one_waits_for_more_files(
    history: tuple[Pipeline, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, _ = history

    def publish_until(at: datetime) -> None:
        pipeline.conn.execute("UPDATE ledger.segments SET first_record_at = %s, last_record_at = %s", [at, at])

    publish_until(LONG_AGO + timedelta(minutes=61))
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "SPARE_FILES", 0)
        assert compact(pipeline).items == 0  # the hour's last window is not complete
        publish_until(LONG_AGO + timedelta(minutes=62))
        assert compaction.compact(pipeline.conn, pipeline.settings, RUN, dry_run=True).items == 2
    assert compact(pipeline).items == 0
    pipeline.use(allowed_lateness_hours=1)
    assert compact(pipeline).items == 0  # the watermark is an hour after it, and no lateness later
    publish_until(LONG_AGO + timedelta(hours=2))
    assert compact(pipeline).items == 2


def test_a_compaction_beside_a_publish_leaves_the_hour_to_the_next_run(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, records, attempt_id = begun
    write = compaction._write

    def publish_then_write(*given: Any) -> Any:
        written = write(*given)
        pipeline.publish(attempt_id)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "_write", publish_then_write)
        assert compact(pipeline).lines == [f"{LONG_AGO:%Y-%m-%dT%H}: changed meanwhile, left to the next run"]
    assert compact(pipeline).items == 3 + 2
    aging.sweep_after_grace(pipeline)
    aging.assert_files_are_as_named(pipeline)
    pipeline.assert_equals_oracle(records)


def test_large_hours_fill_their_files(history: tuple[Pipeline, list[Record]], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, records = history
    monkeypatch.setattr(compaction, "RECORDS_PER_FILE", 4)
    monkeypatch.setattr(compaction, "ROW_GROUP_BYTES", 1)
    assert compact(pipeline).items == 0  # six events need two files
    pipeline.conn.execute("UPDATE ledger.event_files SET hour = hour WHERE live")
    attempt = compaction.compact_hour(pipeline.conn, pipeline.settings, LONG_AGO, RUN)
    assert attempt == 2
    assert sorted(
        pipeline.conn.execute("SELECT records FROM ledger.event_files WHERE live AND hour = %s", [LONG_AGO]).fetchall()
    ) == [(2,), (4,)]
    pipeline.assert_equals_oracle(records)


def test_retired_hours_beyond_a_batch_are_not_in_its_spec(history: tuple[Pipeline, list[Record]]) -> None:
    pipeline, records = history
    retire(pipeline)
    pipeline.land_records(aging.batch_at(TODAY - timedelta(hours=1), len(records)))
    batch_id = pipeline.claim()
    assert batch_id
    assert pipeline.spec(pipeline.begin(batch_id)).retired_hours == ()
    pipeline.conn.execute("UPDATE ledger.segments SET historic = 1 WHERE batch_id = %s", [batch_id])
    assert len(pipeline.spec(pipeline.begin(batch_id)).retired_hours) == 48
    assert len(batches.retired_hours(pipeline.conn)) == 48


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param("UPDATE analytics.traffic_by_window SET published_at = now()", id="published again"),
        pytest.param("UPDATE ledger.published_days SET erasures_seen = erasures_seen + 1", id="a user erased"),
    ],
)
def test_a_day_that_changes_meanwhile_is_not_retired(
    remembered: tuple[RolledBack, list[Record]], meanwhile: str
) -> None:
    pipeline, _ = remembered
    until, keep = TODAY - 90 * DAY, pipeline.settings.retention.events_days
    (first, *_) = retirement.aged_days(pipeline.conn, until=until, keep_days=keep)
    pipeline.conn.execute(meanwhile)
    assert retirement.retire_day(pipeline.conn, first.day, until=until, keep_days=keep) is False


def test_a_day_that_is_not_over_is_not_old(remembered: tuple[RolledBack, list[Record]]) -> None:
    pipeline, _ = remembered
    keep, end = pipeline.settings.retention.events_days, LONG_AGO + timedelta(hours=12)
    days = [retirement.aged_days(pipeline.conn, until=until, keep_days=keep) for until in (end - DAY / 24, end)]
    assert [[one.day for one in found] for found in days] == [[], [LONG_AGO.date()]]


def test_the_open_attempt_is_looked_for_once_however_much_waits(remembered: tuple[RolledBack, list[Record]]) -> None:
    pipeline, _ = remembered
    removals.decide(
        pipeline.conn, [removals.Removal(path=f"file:///{n}", zone="raw") for n in range(50)], reason="retention"
    )
    aging.let_grace_pass(pipeline)
    values = {"grace": timedelta(hours=2), "after": "", "chunk": removals.CHUNK}
    [[[plan]]] = pipeline.conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {removals.DUE}", values).fetchall()

    def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for below in node.get("Plans", ()):
            yield from nodes(below)

    [scan] = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") == "attempts"]
    assert plan["Plan"]["Actual Rows"] == 50
    assert scan["Actual Loops"] == 1
