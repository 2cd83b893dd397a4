"""Each guard is needed: with one taken out, the numbers or the ledger of a case that holds otherwise are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from psycopg.errors import IntegrityError
from pyspark.sql import SparkSession

from clickstream.aggregate import attempt
from clickstream.errors import ConservationBroken, OutputMismatch, StaleAttempt, StaleBase
from clickstream.ledger import drains, publishing
from clickstream_transform.storage import InputFileError
from tests.kit.events import values
from tests.kit.pipeline import Pipeline

Case = Callable[[Pipeline, SparkSession], None]


def same_offsets_landed_twice(pipeline: Pipeline, spark: SparkSession) -> None:
    drain_ids = pipeline.plan()
    zombies = [pipeline.land(drain_id) for drain_id in drain_ids]
    pipeline.commit([pipeline.land(drain_id) for drain_id in drain_ids])
    pipeline.produce(values(80)[60:])
    pipeline.drain_all()
    with suppress(StaleAttempt):
        pipeline.commit(zombies)
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(pipeline.log())


def older_attempt_publishes_while_the_newer_works(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.drain_all()
    batch_id = pipeline.claim()
    assert batch_id is not None
    older, newer = pipeline.begin(batch_id), pipeline.begin(batch_id)
    pipeline.transform(spark, older)
    with suppress(StaleAttempt):
        pipeline.publish(older)
    pipeline.transform(spark, newer)
    with suppress(StaleAttempt):
        pipeline.publish(newer)
    pipeline.assert_equals_oracle(pipeline.log())
    # The older one was declared dead when the newer began, so the sweep may remove its files at any time.
    assert pipeline.one("SELECT attempt_id FROM ledger.attempts WHERE state = 'committed' AND batch_id > 0") == newer
    assert str(older) not in pipeline.one("SELECT string_agg(path, ' ') FROM ledger.event_files WHERE live")


def an_hour_is_retired_while_spark_works(pipeline: Pipeline, spark: SparkSession) -> None:
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.produce(values(90)[60:])
    pipeline.drain_all()
    attempt_id = pipeline.attempt(spark)
    assert attempt_id is not None
    with pipeline.conn.transaction():
        publishing.lock_analytics(pipeline.conn)
        pipeline.conn.execute("UPDATE ledger.event_files SET live = false")
        pipeline.conn.execute(
            "INSERT INTO ledger.retired_hours (hour, events)"
            " SELECT hour, sum(records) FROM ledger.event_files GROUP BY hour"
        )
    retired = set(
        pipeline.one(
            "SELECT array_agg(to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24')) FROM ledger.retired_hours"
        )
    )
    before = pipeline.traffic()
    with suppress(StaleBase):
        pipeline.publish(attempt_id)
    pipeline.aggregate_all(spark)
    changed = {key for key, row in pipeline.traffic().items() if before.get(key) != row}
    hours = {f"{hour}:00:00+00:00" for hour in retired}
    assert not {key for key in changed if _hour(key[0]) in hours}
    assert pipeline.unaccounted() == {}


def _hour(epoch: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch, UTC).replace(minute=0).isoformat()


def _tamper(pipeline: Pipeline, spark: SparkSession, change: Callable[[dict[str, Any]], None]) -> Any:
    pipeline.drain_all()
    attempt_id = pipeline.attempt(spark)
    assert attempt_id is not None
    path = attempt.folder(pipeline.settings, attempt_id) / "report.json"
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))
    return attempt_id


def spark_forgets_a_record(pipeline: Pipeline, spark: SparkSession) -> None:
    def forget(report: dict[str, Any]) -> None:
        report["duplicate"] -= 1

    pipeline.produce(values(5))
    attempt_id = _tamper(pipeline, spark, forget)
    with suppress(ConservationBroken):
        pipeline.publish(attempt_id)
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(pipeline.log())


def spark_reads_less_than_was_landed(pipeline: Pipeline, spark: SparkSession) -> None:
    def read_less(report: dict[str, Any]) -> None:
        report["landed"] -= 1
        report["duplicate"] -= 1

    pipeline.produce(values(5))
    attempt_id = _tamper(pipeline, spark, read_less)
    with suppress(ConservationBroken):
        pipeline.publish(attempt_id)
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(pipeline.log())


def spark_leaves_windows_out(pipeline: Pipeline, spark: SparkSession) -> None:
    def leave_out(report: dict[str, Any]) -> None:
        report["tables"]["traffic_by_window"] = []

    attempt_id = _tamper(pipeline, spark, leave_out)
    with suppress(ConservationBroken):
        pipeline.publish(attempt_id)
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(pipeline.log())


def _forget_a_row(table: str) -> Case:
    def forget(report: dict[str, Any]) -> None:
        (file,) = report["tables"][table]
        path = Path(file["path"].removeprefix("file://"))
        pq.write_table(pq.read_table(path).slice(1), path)
        file.update(records=file["records"] - 1, bytes=path.stat().st_size)

    def case(pipeline: Pipeline, spark: SparkSession) -> None:
        attempt_id = _tamper(pipeline, spark, forget)
        with suppress(ConservationBroken):
            pipeline.publish(attempt_id)
        pipeline.aggregate_all(spark)
        pipeline.assert_equals_oracle(pipeline.log())

    case.__name__ = f"spark_forgets_a_row_of_{table}"
    return case


def a_file_is_cut_after_the_report(pipeline: Pipeline, spark: SparkSession) -> None:
    attempt_id = _tamper(pipeline, spark, lambda _: None)
    report = json.loads((attempt.folder(pipeline.settings, attempt_id) / "report.json").read_text())
    file = Path(report["event_files"][0]["path"].removeprefix("file://"))
    file.unlink()
    file.touch()
    with suppress(OutputMismatch):
        pipeline.publish(attempt_id)
    pipeline.aggregate_all(spark)
    pipeline.produce(values(80)[60:])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)  # reads the live files of the hour
    pipeline.assert_equals_oracle(pipeline.log())


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
    (spark_forgets_a_record, without_constraint("batch_records_conserved")),
    (spark_reads_less_than_was_landed, without_constraint("batch_offsets_conserved")),
    (spark_leaves_windows_out, without_window_check),
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


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    pipeline.create_topic()
    pipeline.produce(values(60))
    return pipeline


@pytest.mark.parametrize(("case", "guard"), GUARDS, ids=IDS)
def test_the_guard_holds(filled: Pipeline, spark: SparkSession, case: Case, guard: object) -> None:  # noqa: ARG001
    case(filled, spark)


@pytest.mark.parametrize(("case", "guard"), GUARDS, ids=IDS)
def test_without_the_guard_the_case_turns_red(
    filled: Pipeline,
    spark: SparkSession,
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    guard: Callable[[Pipeline, pytest.MonkeyPatch], None],
) -> None:
    guard(filled, monkeypatch)
    # A guard of the next line may refuse it instead; then the batch could never pass.
    with pytest.raises((AssertionError, IntegrityError, InputFileError, ConservationBroken)):
        case(filled, spark)
