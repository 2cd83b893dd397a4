"""Each guard is needed: with one taken out, the numbers or the ledger of a case that holds otherwise are wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from psycopg.errors import IntegrityError
from pyspark.sql import SparkSession

from clickstream.errors import ConservationBroken, OutputMismatch, StaleAttempt, StaleBase
from clickstream.ledger import drains, publishing
from clickstream_transform.storage import InputFileError, check_inputs
from tests.kit.open_batch import OpenBatch, records_of
from tests.kit.pipeline import Pipeline, in_order

Case = Callable[[OpenBatch, SparkSession], None]
Change = Callable[[dict[str, Any]], None]


def same_offsets_landed_twice(batch: OpenBatch, _spark: SparkSession) -> None:
    pipeline = batch.pipeline
    log, _ = records_of(range(180, 260), first_offset=100)
    zombie, good = pipeline.land_as_attempt(log[:20]), pipeline.land_as_attempt(log[:20])
    pipeline.commit_landed(good)
    pipeline.land_records(log[20:])
    with suppress(StaleAttempt):
        pipeline.commit_landed(zombie)
    assert pipeline.landed() == in_order([*batch.records, *log])
    assert pipeline.unaccounted() == {}


def older_attempt_publishes_while_the_newer_works(batch: OpenBatch, spark: SparkSession) -> None:
    pipeline = batch.pipeline
    for attempt_id in (batch.older, batch.newer):
        with suppress(StaleAttempt):
            pipeline.publish(attempt_id)
    batch.finish(spark)
    # The older one was declared dead when the newer began, so the sweep may remove its files at any time.
    published = pipeline.one("SELECT attempt_id FROM ledger.attempts WHERE state = 'committed' AND batch_id > 0")
    assert published == batch.newer
    assert str(batch.older) not in pipeline.one("SELECT string_agg(path, ' ') FROM ledger.event_files WHERE live")


def an_hour_is_retired_while_spark_works(batch: OpenBatch, spark: SparkSession) -> None:
    pipeline = batch.pipeline
    pipeline.publish(batch.newer)
    log, _ = records_of(range(180, 240), first_offset=100)
    pipeline.land_records(log)
    attempt_id = pipeline.attempt(spark)
    assert attempt_id is not None
    with pipeline.conn.transaction():
        publishing.lock_analytics(pipeline.conn)
        pipeline.conn.execute("UPDATE ledger.event_files SET live = false")
        pipeline.conn.execute(
            "INSERT INTO ledger.retired_hours (hour, events)"
            " SELECT hour, sum(records) FROM ledger.event_files GROUP BY hour"
        )
    retired = {hour for (hour,) in pipeline.conn.execute("SELECT hour FROM ledger.retired_hours")}
    before = pipeline.traffic()
    with suppress(StaleBase):
        pipeline.publish(attempt_id)
    pipeline.aggregate_all(spark)
    changed = {start for (start, _), row in pipeline.traffic().items() if before.get((start, _)) != row}
    assert not {start for start in changed if datetime.fromtimestamp(start, UTC).replace(minute=0) in retired}
    assert pipeline.unaccounted() == {}
    assert pipeline.dispositions()["late"] == len(log)


def _published_with(name: str, change: Change) -> Case:
    """A case in which another report than Spark's is to be published before it."""

    def case(batch: OpenBatch, spark: SparkSession) -> None:
        as_spark_left_it = batch.home.with_name("kept")
        shutil.copytree(batch.home, as_spark_left_it)
        report = json.loads((batch.home / "report.json").read_text())
        change(report)
        (batch.home / "report.json").write_text(json.dumps(report))
        with suppress(ConservationBroken):
            batch.pipeline.publish(batch.newer)
        shutil.rmtree(batch.home)
        as_spark_left_it.rename(batch.home)
        batch.pipeline.publish(batch.newer)
        batch.finish(spark)

    case.__name__ = name
    return case


def _forget(report: dict[str, Any]) -> None:
    report["duplicate"] -= 1


def _read_less(report: dict[str, Any]) -> None:
    report["landed"] -= 1
    report["duplicate"] -= 1


def _leave_out(report: dict[str, Any]) -> None:
    report["tables"]["traffic_by_window"] = []


def _forget_a_row(table: str) -> Case:
    def forget(report: dict[str, Any]) -> None:
        (file,) = report["tables"][table]
        path = Path(file["path"].removeprefix("file://"))
        pq.write_table(pq.read_table(path).slice(1), path)
        file.update(records=file["records"] - 1, bytes=path.stat().st_size)

    return _published_with(f"spark_forgets_a_row_of_{table}", forget)


def a_file_is_cut_after_the_report(batch: OpenBatch, spark: SparkSession) -> None:
    pipeline = batch.pipeline
    report = json.loads((batch.home / "report.json").read_text())
    file = Path(report["event_files"][0]["path"].removeprefix("file://"))
    file.unlink()
    file.touch()
    with suppress(OutputMismatch):
        pipeline.publish(batch.newer)
    batch.finish(spark)
    pipeline.land_records(records_of(range(180, 220), first_offset=100)[0])
    batch_id = pipeline.claim()
    assert batch_id is not None
    next_spec = pipeline.spec(pipeline.begin(batch_id))
    assert check_inputs(next_spec.event_files)  # as Spark does before it reads the live files of the hour


def without_compare_and_swap(_: Pipeline, patch: pytest.MonkeyPatch) -> None:
    assert " AND next_offset = %(first_offset)s" in drains.ADVANCE
    patch.setattr(drains, "ADVANCE", drains.ADVANCE.replace(" AND next_offset = %(first_offset)s", ""))


def without_attempt_check(_: Pipeline, patch: pytest.MonkeyPatch) -> None:
    assert " AND b.attempt = a.attempt" in publishing.RECORD_COUNTS
    patch.setattr(publishing, "RECORD_COUNTS", publishing.RECORD_COUNTS.replace(" AND b.attempt = a.attempt", ""))


def without_live_file_check(_: Pipeline, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(publishing, "check_base", lambda *_: None)


def without_window_check(_: Pipeline, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(publishing, "check_hours", lambda *_: None)


def without_file_check(_: Pipeline, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("clickstream.storage.verify", lambda _: None)


def without_constraint(name: str) -> Callable[[Pipeline, pytest.MonkeyPatch], None]:
    def drop(pipeline: Pipeline, _: pytest.MonkeyPatch) -> None:
        with pipeline.superuser() as conn:
            conn.execute(f"ALTER TABLE ledger.batches DROP CONSTRAINT {name}")

    return drop


GUARDS: list[tuple[Case, Callable[[Pipeline, pytest.MonkeyPatch], None]]] = [
    (same_offsets_landed_twice, without_compare_and_swap),
    (older_attempt_publishes_while_the_newer_works, without_attempt_check),
    (an_hour_is_retired_while_spark_works, without_live_file_check),
    (_published_with("spark_forgets_a_record", _forget), without_constraint("batch_records_conserved")),
    (_published_with("spark_reads_less_than_was_landed", _read_less), without_constraint("batch_offsets_conserved")),
    (_published_with("spark_leaves_windows_out", _leave_out), without_window_check),
    *(
        (_forget_a_row(table), without_window_check)
        for table in (
            "pages_by_window",
            "audience_by_window",
            "funnel_by_window",
            "session_hours",
            "users_by_hour",
        )
    ),
    (a_file_is_cut_after_the_report, without_file_check),
]
IDS = [case.__name__ for case, _ in GUARDS]


@pytest.mark.parametrize(("case", "guard"), GUARDS, ids=IDS)
def test_the_guard_holds(batch: OpenBatch, spark: SparkSession, case: Case, guard: object) -> None:  # noqa: ARG001
    case(batch, spark)


@pytest.mark.parametrize(("case", "guard"), GUARDS, ids=IDS)
def test_without_the_guard_the_case_turns_red(
    batch: OpenBatch,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    guard: Callable[[Pipeline, pytest.MonkeyPatch], None],
) -> None:
    guard(batch.pipeline, monkeypatch)
    # A guard of the next line may refuse it instead; then the batch could never pass.
    with pytest.raises((AssertionError, IntegrityError, InputFileError, ConservationBroken)):
        case(batch, spark)
