import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform import pipeline, schemas
from clickstream_transform.protocol import HourFile, OutputFile, Report
from clickstream_transform.storage import InputFileError
from clickstream_transform.tables import TABLES
from clickstream_transform.tables.table import Changes, Table
from tests.kit.lake import NOON, RAW_SCHEMA, Lake, Record, at, live, local, rows, url, value

HOUR = "2026-11-22T12"
NO_FILES: dict[str, tuple[OutputFile, ...]] = {table.name: () for table in TABLES}


def event(number: int, **changes: Any) -> bytes:
    moment = NOON + timedelta(minutes=number)
    return value(**({"eventId": f"event-{number}", "eventTime": at(moment), "sessionId": f"s{number}"} | changes))


def record(number: int, **changes: Any) -> Record:
    return Record(event(number, **changes), NOON + timedelta(hours=1))


def traffic(report: Report) -> dict[tuple[str, int], tuple[int, int, int]]:
    return {
        (row["window_start"].isoformat()[11:16], row["window_minutes"]): (row["events"], row["users"], row["sessions"])
        for row in rows(report.tables["traffic_by_window"])
    }


def contents(report: Report, name: str) -> set[tuple[Any, ...]]:
    found = rows(report.tables[name])
    distinct = {tuple(row.values()) for row in found}
    assert len(distinct) == len(found)
    return distinct


def counts(report: Report) -> tuple[int, int, int, int, int]:
    return report.landed, report.accepted, report.duplicate, report.late, report.rejected


def test_a_batch_of_everything(spark: SparkSession, lake: Lake) -> None:
    too_old = Record(value(), NOON + timedelta(days=2))
    bad = b'{"text": "caf\xc3\xa9 \x00'
    spec = lake.spec(
        lake.segment([record(0), record(0), record(7), too_old, bad], first_offset=100),
        lake.segment([record(7), record(61, eventType="PURCHASE", amount="12.50", currency="EUR"), None], partition=1),
    )
    report = pipeline.run(spark, spec)

    assert counts(report) == (8, 3, 2, 1, 2)
    assert report.reasons == {"not_json": 1, "null_value": 1}
    assert report.hours == (HOUR, "2026-11-22T13")
    assert [(file.hour, file.records) for file in report.event_files] == [(HOUR, 2), ("2026-11-22T13", 1)]
    assert all(local(file.path).stat().st_size == file.bytes for file in report.event_files)
    assert traffic(report) == {
        ("12:00", 5): (1, 1, 1),
        ("12:05", 5): (1, 1, 1),
        ("12:00", 60): (2, 1, 2),
        ("13:00", 5): (1, 1, 1),
        ("13:00", 60): (1, 1, 1),
    }
    assert {name: sum(file.records for file in files) for name, files in report.tables.items()} == {
        "traffic_by_window": 5,
        "pages_by_window": 3,
        "audience_by_window": 15,
        "funnel_by_window": 5,
        "revenue_by_window": 2,
        "session_hours": 3,
        "users_by_hour": 2,
    }
    for name, files in report.tables.items():
        assert all(local(file.path).stat().st_size == file.bytes for file in files)
        assert all(file.path.startswith(f"{spec.output.tables}/{name}/") for file in files)
    written = local(spec.output.report)
    assert Report.from_json(written.read_text()) == report
    assert {"classify", "dedupe", "write_events"} <= set(report.stages)

    accepted = rows(report.event_files)
    assert [(row["partition"], row["offset"]) for row in accepted] == [(0, 100), (0, 102), (1, 1)]
    assert list(accepted[0]) == schemas.EVENTS.names
    assert str(accepted[2]["amount"]) == "12.500000"
    assert accepted[0]["record_time"] == NOON + timedelta(hours=1)
    assert len(accepted[0]["fingerprint"]) == 32

    rejected = {row["reason"]: row for row in rows(report.rejected_files)}
    assert list(rejected["not_json"]) == schemas.REJECTED.names
    assert rejected["not_json"]["value"] == bad
    assert rejected["not_json"]["excerpt"] == '{"text": "café \ufffd'
    assert (rejected["null_value"]["value"], rejected["null_value"]["excerpt"]) == (None, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe plain",
        b"\xe2\x82" + b"x" * 10,
        b"\xf0\x9f\x98" * 3,
        b"\xed\xa0\x80\xc0\x80",
        "\U0001f600".encode() * 1_100,
        b"\0" * 1_100,
        b"ab\xe2\x82\xac" * 700,
    ],
)
def test_excerpts_show_what_python_would(spark: SparkSession, lake: Lake, raw: bytes) -> None:
    report = pipeline.run(spark, lake.spec(lake.segment([raw])))
    (row,) = rows(report.rejected_files)
    assert row["excerpt"] == raw.decode(errors="replace").replace("\0", "\ufffd")[:1024]
    assert row["value"] == raw


def test_values_of_all_rejects_are_kept_verbatim(spark: SparkSession, lake: Lake) -> None:
    future = event(0)
    values = [b"\xff\0", None, b"", b"{" * 2_000_000, future]
    segments = [lake.segment(values, partition=partition, first_offset=7) for partition in (0, 1)]
    early = lake.segment([Record(future, NOON - timedelta(days=1))], topic_id="topic-2")
    report = pipeline.run(spark, lake.spec(*segments, early))
    kept = {(row["topic_id"], row["partition"], row["offset"]): row["value"] for row in rows(report.rejected_files)}
    expected = {("topic-1", p, 7 + n): value for p in (0, 1) for n, value in enumerate(values[:4])}
    assert kept == expected | {("topic-2", 0, 0): future}


def test_later_batches_dedupe_against_live_files_and_recompute_their_windows(spark: SparkSession, lake: Lake) -> None:
    first = pipeline.run(spark, lake.spec(lake.segment([record(0), record(7), record(20)])))
    batch = lake.segment([record(0), record(1, userId="user-2"), record(7, page="/other"), record(60)])
    second = pipeline.run(spark, lake.spec(batch, event_files=live(first)))

    assert counts(second) == (4, 3, 1, 0, 0)
    assert second.id_conflicts == 1
    assert second.hours == (HOUR, "2026-11-22T13")
    assert (second.hours_read.files, second.hours_read.bytes) == (1, first.event_files[0].bytes)
    assert traffic(second) == {
        ("12:00", 5): (2, 2, 2),
        ("12:05", 5): (2, 1, 1),
        ("12:00", 60): (5, 2, 4),
        ("13:00", 5): (1, 1, 1),
        ("13:00", 60): (1, 1, 1),
    }
    third = pipeline.run(spark, lake.spec(batch, event_files=live(first, second)))
    assert counts(third) == (4, 0, 4, 0, 0)
    assert third.event_files == ()
    assert third.tables == {table.name: () for table in TABLES}


def test_a_table_without_rows_has_a_file_that_names_its_columns(spark: SparkSession, lake: Lake) -> None:
    report = pipeline.run(spark, lake.spec(lake.segment([record(0, eventType="LOGIN")])))
    for name in ("pages_by_window", "revenue_by_window"):
        (file,) = report.tables[name]
        assert file.records == 0
        assert pq.read_schema(local(file.path)).names[:2] == ["window_start", "window_minutes"]


def test_a_table_that_fails_fails_the_batch(spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(changes: Changes) -> DataFrame:
        return changes.visits.select(F.raise_error(F.lit("no such luck")))

    monkeypatch.setattr(pipeline, "TABLES", (*TABLES, Table("failing", fail)))
    spec = lake.spec(lake.segment([record(0)]))
    with pytest.raises(Exception, match="no such luck"):
        pipeline.run(spark, spec)
    assert not local(spec.output.report).exists()
    assert list(spark.sparkContext.statusTracker().getActiveJobsIds()) == []


def test_sessions_and_users_go_on_from_live_events(spark: SparkSession, lake: Lake) -> None:
    first = pipeline.run(spark, lake.spec(lake.segment([record(5, sessionId="s", page="/b")])))
    earlier = record(1, sessionId="s", page="/a?x", userId="user-2", device="desktop")
    second = pipeline.run(spark, lake.spec(lake.segment([earlier, record(61)]), event_files=live(first)))
    hours = {(row["session_id"], row["hour"]): row for row in rows(second.tables["session_hours"])}
    assert set(hours) == {("s", NOON), ("s61", NOON + timedelta(hours=1))}
    gained = hours["s", NOON]
    assert (gained["events"], gained["user_id"], gained["device"]) == (2, "user-2", "desktop")
    assert (gained["started_at"], gained["ended_at"]) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=5))
    assert (gained["entry_page"], gained["exit_page"]) == ("/a", "/b")
    users = [(row["hour"], row["user_id"]) for row in rows(second.tables["users_by_hour"])]
    assert sorted(users) == [(NOON, "user-2"), (NOON + timedelta(hours=1), "user-1")]


def test_live_files_written_before_a_field_existed_read_as_null(spark: SparkSession, lake: Lake) -> None:
    first = pipeline.run(spark, lake.spec(lake.segment([record(0, referrer="https://x.example")])))
    (file,) = first.event_files
    old = lake.root / "old.parquet"
    pq.write_table(pq.ParquetFile(local(file.path)).read().drop_columns(["referrer"]), old)
    older = [HourFile(hour=file.hour, path=url(old), records=1)]
    second = pipeline.run(spark, lake.spec(lake.segment([record(1)]), event_files=older))
    hosts = {
        (row["window_minutes"], row["value"]): row["events"]
        for row in rows(second.tables["audience_by_window"])
        if row["dimension"] == "referrer"
    }
    assert hosts == {(5, "(direct)"): 2, (60, "(direct)"): 2}


def test_numbers_do_not_depend_on_how_records_are_split_into_batches(spark: SparkSession, lake: Lake) -> None:
    records = [record(number % 17, userId=f"u{number % 4}") for number in range(40)]
    whole = pipeline.run(spark, lake.spec(lake.segment(records)))
    one = pipeline.run(spark, lake.spec(lake.segment(records[:11])))
    other = pipeline.run(spark, lake.spec(lake.segment(records[11:], first_offset=11), event_files=live(one)))
    assert traffic(one) | traffic(other) == traffic(whole)
    assert one.accepted + other.accepted == whole.accepted
    assert one.duplicate + other.duplicate == whole.duplicate


def test_only_files_of_touched_hours_are_opened(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.parquet"
    corrupt.write_bytes(b"no parquet at all")
    elsewhere = [
        HourFile(hour="2026-11-22T11", path=url(corrupt), records=1),
        HourFile(hour="2026-11-22T13", path=url(tmp_path / "missing.parquet"), records=1),
    ]
    report = pipeline.run(spark, lake.spec(lake.segment([record(0)]), event_files=elsewhere))
    assert counts(report) == (1, 1, 0, 0, 0)
    assert report.hours_read.files == 0

    touched = [HourFile(hour=HOUR, path=url(corrupt), records=1)]
    with pytest.raises(InputFileError, match=r"corrupt\.parquet: not a readable Parquet file"):
        pipeline.run(spark, lake.spec(lake.segment([record(0)]), event_files=touched))


def test_input_files_that_are_not_as_recorded_fail_by_name(spark: SparkSession, lake: Lake) -> None:
    spec = lake.spec(lake.segment([record(0)]), lake.segment([record(1)], partition=1))
    path = local(spec.segments[1].path)
    content = path.read_bytes()

    pq.write_table(pq.ParquetFile(path).read().slice(0, 0), path)
    with pytest.raises(InputFileError, match=r"/partition=1/2\.parquet: holds 0 rows where 1 are recorded"):
        pipeline.run(spark, spec)
    path.write_bytes(content[:-1])
    with pytest.raises(InputFileError, match=r"/partition=1/2\.parquet: not a readable Parquet file"):
        pipeline.run(spark, spec)
    path.unlink()
    with pytest.raises(InputFileError, match=r"/partition=1/2\.parquet: the spec names this file but it does not"):
        pipeline.run(spark, spec)
    assert not local(spec.output.report).exists()


def test_damage_inside_a_file_fails_by_name(spark: SparkSession, lake: Lake) -> None:
    segment = lake.segment([record(number) for number in range(50)])
    path = local(segment.path)
    content = bytearray(path.read_bytes())
    values = pq.read_metadata(path).row_group(0).column(RAW_SCHEMA.get_field_index("value"))
    start = values.dictionary_page_offset or values.data_page_offset
    content[start : start + values.total_compressed_size] = b"\xff" * values.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(Exception, match=r"FAILED_READ_FILE[\s\S]*/partition=0/1\.parquet"):
        pipeline.run(spark, lake.spec(segment))


def test_a_batch_without_segments_reports_zeros(spark: SparkSession, lake: Lake) -> None:
    spec = lake.spec()
    report = pipeline.run(spark, spec)
    assert counts(report) == (0, 0, 0, 0, 0)
    assert (report.hours, report.event_files, report.tables) == ((), (), NO_FILES)
    assert json.loads(local(spec.output.report).read_text())["landed"] == 0


def test_a_batch_of_rejects_reads_no_hour(spark: SparkSession, lake: Lake) -> None:
    report = pipeline.run(spark, lake.spec(lake.segment([b"x", b"y"]), lake.segment([], partition=1)))
    assert counts(report) == (2, 0, 0, 0, 2)
    assert report.hours == ()


def test_another_attempt_gives_the_same_rows(spark: SparkSession, lake: Lake) -> None:
    segment = lake.segment([*(record(number % 9) for number in range(30)), b"x"])
    first, second = (pipeline.run(spark, lake.spec(segment)) for _ in range(2))
    assert rows(first.event_files) == rows(second.event_files)
    assert rows(first.rejected_files) == rows(second.rejected_files)
    assert traffic(first) == traffic(second)
    assert counts(first) == counts(second)


def test_an_output_folder_that_exists_is_an_error(spark: SparkSession, lake: Lake) -> None:
    spec = lake.spec(lake.segment([record(0)]))
    pipeline.run(spark, spec)
    with pytest.raises(AnalysisException, match="PATH_ALREADY_EXISTS"):
        pipeline.run(spark, spec)


def test_large_batches_take_several_tasks_and_files(
    spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clickstream_transform.session.ROWS_PER_TASK", 10)
    monkeypatch.setattr("clickstream_transform.write.ROWS_PER_FILE", 20)
    records = [record(number % 55, eventId=f"e{number % 70}", userId=f"u{number % 7}") for number in range(200)]
    many = pipeline.run(spark, lake.spec(lake.segment(records)))
    monkeypatch.undo()
    one = pipeline.run(spark, lake.spec(lake.segment(records)))
    assert 1 < len(many.event_files) < 10
    for name in many.tables:
        assert contents(many, name) == contents(one, name), name
    assert len(one.event_files) == 1
    assert traffic(many) == traffic(one)
    assert counts(many) == counts(one)
    assert many.id_conflicts == one.id_conflicts


def test_the_session_is_given_back_as_it_was(spark: SparkSession, lake: Lake) -> None:
    before = {key: spark.conf.get(key, None) for key in ("spark.sql.session.timeZone", "spark.sql.adaptive.enabled")}
    pipeline.run(spark, lake.spec(lake.segment([record(0)])))
    assert {key: spark.conf.get(key, None) for key in before} == before
    assert before["spark.sql.session.timeZone"] == "America/St_Johns"
