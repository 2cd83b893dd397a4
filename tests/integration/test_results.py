"""Sessions, windows' revisions and hostile texts: what publishing makes of batches that come in any order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from clickstream.ledger import staging, windows
from infra.local.stack import Stack
from tests.kit.events import event_record
from tests.kit.pipeline import Pipeline
from tests.kit.records import HISTORIC
from tests.oracle import Record

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
REVISIONS = {("12:00", 5): 2, ("12:05", 5): 1, ("12:00", 60): 2}  # of the fixture `revised`
record = partial(event_record, landed_at=NOON + timedelta(hours=3))


def publish_one_by_one(pipeline: Pipeline, spark: SparkSession, records: list[Record]) -> None:
    for number, one in enumerate(records):
        pipeline.land_records([one])
        pipeline.aggregate_all(spark)
        pipeline.assert_equals_oracle(records[: number + 1])


def test_a_session_over_three_hours_is_the_same_in_whatever_order_it_comes(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    middle, last, first = (
        NOON + timedelta(minutes=30),
        NOON + timedelta(hours=1, minutes=10),
        NOON - timedelta(minutes=5),
    )
    publish_one_by_one(
        pipeline,
        spark,
        [
            record(0, middle, sessionId="s", page="/middle", device="tablet", userId="u2"),
            record(1, last, sessionId="s", page="/last?x=1", device="mobile", userId="u3"),
            record(2, first, sessionId="s", eventType="LOGIN", device="desktop", userId="u1"),
            record(3, first, sessionId="s", eventId="0-before-in-order", page="#top", device="tv", region="r"),
        ],
    )
    row = pipeline.table("sessions")["s"]
    assert (row["device"], row["entry_page"], row["exit_page"], row["events"]) == ("tv", "/", "/last", 4)
    assert (row["started_at"], row["ended_at"]) == (first, last)


def revisions(pipeline: Pipeline) -> dict[tuple[str, int], int]:
    rows = pipeline.conn.execute(
        "SELECT to_char(window_start AT TIME ZONE 'UTC', 'HH24:MI'), window_minutes, revision"
        " FROM analytics.traffic_by_window"
    ).fetchall()
    return {(start, minutes): revision for start, minutes, revision in rows}


@pytest.fixture(scope="module")
def revised(services: Stack, template: str, spark: SparkSession) -> Iterator[Pipeline]:
    """Two windows of an hour, one of which a second batch has changed; neither the third one nor a test changes any."""
    first, second, third = (
        record(number, NOON + timedelta(minutes=at), page="/") for number, at in enumerate((0, 5, 1))
    )
    duplicate = record(3, NOON, eventId="e0", page="/")
    with Pipeline.new(services, template) as pipeline:
        for batch in ([first, second], [third], [duplicate]):
            pipeline.land_records(batch)
            pipeline.aggregate_all(spark)
        yield pipeline


def test_a_publish_changes_the_revision_of_the_windows_that_it_changes(revised: Pipeline) -> None:
    assert revised.dispositions() == {"accepted": 3, "duplicate": 1}
    assert revisions(revised) == REVISIONS


@pytest.mark.parametrize(("views", "revision"), [(2, 2), (3, 3)])
def test_a_number_of_any_table_counts_as_a_change(revised: Pipeline, views: int, revision: int) -> None:
    traffic = revised.table("traffic")[int(NOON.timestamp()), 5]
    key = {"window_start": [NOON], "window_minutes": pa.array([5], pa.int16())}
    with revised.conn.transaction(force_rollback=True):
        staged = [
            staging.stage(revised.conn, name, list(columns), pa.table(columns).to_batches())
            for name, columns in (
                ("traffic_by_window", key | {name: [number] for name, number in traffic.items()}),
                ("pages_by_window", key | {"page": ["/"], "views": [views], "users": [1], "sessions": [1]}),
            )
        ]
        windows.replace_windows(revised.conn, 3, staged[0], staged[1:])
        assert revisions(revised)["12:00", 5] == revision
        assert revised.table("pages")[int(NOON.timestamp()), 5, "/"]["views"] == views


def test_texts_that_are_hard_to_copy_or_to_index_are_published_as_they_are(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    astral = "".join(chr(0x10000 + n * 104_729 % 0x2FFFD) for n in range(1_024))  # 4 KB that hardly compress
    texts = ["\\.", "\n\\.\n", '"', '""', ",", "\\N", "NULL", " ", "\r", "\r\n", "'", "a\tb", astral]
    records = [
        record(
            number, NOON, page=text, referrer=f"x://{text}", device=text[:256], sessionId=text[:256], userId=text[:256]
        )
        for number, text in enumerate(texts)
    ]
    pipeline.land_records(records)
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(records)


def test_the_manifest_names_the_hours_that_the_batch_can_touch_and_all_for_historic_records(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    pipeline.land_records([_historic(record(0, NOON - timedelta(days=9)))])
    for number, at in ((1, NOON - timedelta(hours=23)), (2, NOON)):
        pipeline.land_records([record(number, at, landed_at=at)])
    pipeline.aggregate_all(spark)
    pipeline.close()
    for one, hours in (
        (record(3, NOON, landed_at=NOON + timedelta(minutes=10)), ["2026-11-21T13", "2026-11-22T12"]),
        (_historic(record(3, NOON - timedelta(days=9))), ["2026-11-13T12", "2026-11-21T13", "2026-11-22T12"]),
    ):
        with pipeline.copied() as copy:
            copy.land_records([one])
            batch_id = copy.claim()
            assert batch_id is not None
            assert sorted({file.hour for file in copy.spec(copy.begin(batch_id)).event_files}) == hours


def _historic(one: Record) -> Record:
    return Record(one.topic_id, one.partition, one.offset, one.timestamp_ms, one.key, one.value, HISTORIC)
