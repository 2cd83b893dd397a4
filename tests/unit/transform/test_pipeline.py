"""Whole batches. A run takes seconds, so what can be shown by the same one is."""

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
from clickstream_transform.protocol import HourFile, OutputFile, Report, Spec
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


# A batch of everything

BAD = b'{"text": "caf\xc3\xa9 \x00'


@pytest.fixture(scope="module")
def everything(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Report]:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    too_old = Record(value(), NOON + timedelta(days=2))
    spec = lake.spec(
        lake.segment([record(0), record(0), record(7), too_old, BAD], first_offset=100),
        lake.segment([record(7), record(61, eventType="PURCHASE", amount="12.50", currency="EUR"), None], partition=1),
    )
    return spec, pipeline.run(spark, spec)


def test_a_batch_of_everything(everything: tuple[Spec, Report]) -> None:
    spec, report = everything
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
    assert rejected["not_json"]["value"] == BAD
    assert rejected["not_json"]["excerpt"] == '{"text": "café \ufffd'
    assert (rejected["null_value"]["value"], rejected["null_value"]["excerpt"]) == (None, None)


def test_the_session_is_given_back_as_it_was(spark: SparkSession, everything: tuple[Spec, Report]) -> None:
    _, report = everything
    assert report.accepted
    assert spark.conf.get("spark.sql.session.timeZone") == "America/St_Johns"
    assert spark.conf.get("spark.sql.adaptive.enabled") == "true"


def test_an_output_folder_that_exists_is_an_error(spark: SparkSession, everything: tuple[Spec, Report]) -> None:
    spec, _ = everything
    with pytest.raises(AnalysisException, match="PATH_ALREADY_EXISTS"):
        pipeline.run(spark, spec)


# What is rejected

RAWS = [
    b"",
    b"\xff\xfe plain",
    b"\xe2\x82" + b"x" * 10,
    b"\xf0\x9f\x98" * 3,
    b"\xed\xa0\x80\xc0\x80",
    "\U0001f600".encode() * 1_100,
    b"\0" * 1_100,
    b"ab\xe2\x82\xac" * 700,
]
VALUES = [b"\xff\0", None, b"", b"{" * 2_000_000]
FUTURE = event(0)


@pytest.fixture(scope="module")
def rejected(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int, int], Any]:
    """Rows of rejected records by their coordinates."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    segments = [lake.segment([*VALUES, FUTURE], partition=partition, first_offset=7) for partition in (0, 1)]
    early = lake.segment([Record(FUTURE, NOON - timedelta(days=1))], topic_id="topic-2")
    report = pipeline.run(spark, lake.spec(*segments, early, lake.segment(RAWS, topic_id="raw")))
    return {(row["topic_id"], row["partition"], row["offset"]): row for row in rows(report.rejected_files)}


@pytest.mark.parametrize("number", range(len(RAWS)))
def test_excerpts_show_what_python_would(rejected: dict[tuple[str, int, int], Any], number: int) -> None:
    row, raw = rejected["raw", 0, number], RAWS[number]
    assert row["excerpt"] == raw.decode(errors="replace").replace("\0", "\ufffd")[:1024]
    assert row["value"] == raw


def test_values_of_all_rejects_are_kept_verbatim(rejected: dict[tuple[str, int, int], Any]) -> None:
    kept = {place: row["value"] for place, row in rejected.items() if place[0] != "raw"}
    expected = {("topic-1", p, 7 + n): value for p in (0, 1) for n, value in enumerate(VALUES)}
    assert kept == expected | {("topic-2", 0, 0): FUTURE}


def test_a_batch_of_rejects_reads_no_hour(spark: SparkSession, lake: Lake) -> None:
    report = pipeline.run(spark, lake.spec(lake.segment([b"x", b"y"]), lake.segment([], partition=1)))
    assert counts(report) == (2, 0, 0, 0, 2)
    assert report.hours == ()


# Batches after others


@pytest.fixture(scope="module")
def history(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    """Three batches, the last of what the second had; of the first, the file of an hour is from before a field."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    before = [record(0), record(7), record(20)]
    session = record(-115, sessionId="s", page="/b")
    referred = record(-175, referrer="https://x.example")
    first = pipeline.run(spark, lake.spec(lake.segment([*before, session, referred])))
    oldest, *files = live(first)
    old = lake.root / "old.parquet"
    pq.write_table(pq.ParquetFile(local(oldest.path)).read().drop_columns(["referrer"]), old)
    event_files = [HourFile(hour=oldest.hour, path=url(old), records=1), *files]

    batch = [record(0), record(1, userId="user-2"), record(7, page="/other"), record(60)]
    earlier = record(-119, sessionId="s", page="/a?x", userId="user-2", device="desktop")
    segment = lake.segment([*batch, earlier, record(-174)])
    second = pipeline.run(spark, lake.spec(segment, event_files=event_files))
    third = pipeline.run(spark, lake.spec(segment, event_files=[*event_files, *live(second)]))
    return [first, second, third]


def test_later_batches_dedupe_against_live_files_and_recompute_their_windows(history: list[Report]) -> None:
    first, second, third = history
    assert counts(second) == (6, 5, 1, 0, 0)
    assert second.id_conflicts == 1
    assert second.hours == ("2026-11-22T09", "2026-11-22T10", HOUR, "2026-11-22T13")
    assert second.hours_read.files == len(first.event_files) == 3
    assert traffic(second) == {
        ("09:05", 5): (2, 1, 2),
        ("09:00", 60): (2, 1, 2),
        ("10:00", 5): (1, 1, 1),
        ("10:00", 60): (2, 2, 1),
        ("12:00", 5): (2, 2, 2),
        ("12:05", 5): (2, 1, 1),
        ("12:00", 60): (5, 2, 4),
        ("13:00", 5): (1, 1, 1),
        ("13:00", 60): (1, 1, 1),
    }
    assert counts(third) == (6, 0, 6, 0, 0)
    assert third.event_files == ()
    assert third.tables == NO_FILES
    assert (third.hours_read.files, third.hours_read.bytes) == (
        3 + len(second.event_files),
        second.hours_read.bytes + sum(file.bytes for file in second.event_files),
    )


def test_sessions_and_users_go_on_from_live_events(history: list[Report]) -> None:
    _, second, _ = history
    hours = {(row["session_id"], row["hour"].hour): row for row in rows(second.tables["session_hours"])}
    assert set(hours) == {("s-174", 9), ("s", 10), ("s1", 12), ("s7", 12), ("s60", 13)}
    gained = hours["s", 10]
    assert (gained["events"], gained["user_id"], gained["device"]) == (2, "user-2", "desktop")
    assert [gained[name] - NOON for name in ("started_at", "ended_at")] == [
        timedelta(minutes=-119),
        timedelta(minutes=-115),
    ]
    assert (gained["entry_page"], gained["exit_page"]) == ("/a", "/b")
    users = [(row["hour"].hour, row["user_id"]) for row in rows(second.tables["users_by_hour"])]
    assert sorted(users) == [(9, "user-1"), (10, "user-2"), (12, "user-1"), (12, "user-2"), (13, "user-1")]


def test_live_files_written_before_a_field_existed_read_as_null(history: list[Report]) -> None:
    first, second, _ = history

    def hosts(report: Report) -> dict[tuple[int, str], int]:
        return {
            (row["window_minutes"], row["value"]): row["events"]
            for row in rows(report.tables["audience_by_window"])
            if row["dimension"] == "referrer" and row["window_start"].hour == 9
        }

    assert hosts(first) == {(5, "x.example"): 1, (60, "x.example"): 1}
    assert hosts(second) == {(5, "(direct)"): 2, (60, "(direct)"): 2}


@pytest.fixture(scope="module")
def alone(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A batch of one event that is no view; files of other hours can't be read."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    elsewhere = [
        HourFile(hour="2026-11-22T11", path=url(corrupt(lake)), records=1),
        HourFile(hour="2026-11-22T13", path=url(lake.root / "missing.parquet"), records=1),
    ]
    return pipeline.run(spark, lake.spec(lake.segment([record(0, eventType="LOGIN")]), event_files=elsewhere))


def corrupt(lake: Lake) -> Path:
    path = lake.root / "corrupt.parquet"
    path.write_bytes(b"no parquet at all")
    return path


def test_a_table_without_rows_has_a_file_that_names_its_columns(alone: Report) -> None:
    for name in ("pages_by_window", "revenue_by_window"):
        (file,) = alone.tables[name]
        assert file.records == 0
        assert pq.read_schema(local(file.path)).names[:2] == ["window_start", "window_minutes"]


def test_files_of_other_hours_are_not_opened(alone: Report) -> None:
    assert counts(alone) == (1, 1, 0, 0, 0)
    assert alone.hours_read.files == 0


def test_a_file_of_a_touched_hour_that_cannot_be_read_fails_by_name(spark: SparkSession, lake: Lake) -> None:
    touched = [HourFile(hour=HOUR, path=url(corrupt(lake)), records=1)]
    with pytest.raises(InputFileError, match=r"corrupt\.parquet: not a readable Parquet file"):
        pipeline.run(spark, lake.spec(lake.segment([record(0)]), event_files=touched))


# Many records

RECORDS = [record(number % 55, eventId=f"e{number % 70}", userId=f"u{number % 7}") for number in range(200)]
MANY = [*RECORDS, *RECORDS[:30], Record(b"x")]


@pytest.fixture(scope="module")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Report]:
    """All of them at once, by one task."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    return lake, pipeline.run(spark, lake.spec(lake.segment(MANY)))


def test_numbers_depend_neither_on_the_split_into_batches_nor_on_that_into_tasks(
    spark: SparkSession, whole: tuple[Lake, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, once = whole
    monkeypatch.setattr("clickstream_transform.session.ROWS_PER_TASK", 50)
    monkeypatch.setattr("clickstream_transform.write.ROWS_PER_FILE", 20)
    one = pipeline.run(spark, lake.spec(lake.segment(MANY[:90])))
    other = pipeline.run(spark, lake.spec(lake.segment(MANY[90:], first_offset=90), event_files=live(one)))

    assert counts(once) == (231, 200, 30, 0, 1)
    assert tuple(map(sum, zip(counts(one), counts(other), strict=True))) == counts(once)
    assert one.id_conflicts + other.id_conflicts == once.id_conflicts > 0
    assert len(once.event_files) == 1
    assert 2 < len(one.event_files) + len(other.event_files) < 20
    for name in once.tables:
        published = contents(other, name)
        replaced = {row[:2] for row in published}
        kept = {row for row in contents(one, name) if row[:2] not in replaced}
        assert kept | published == contents(once, name), name


def test_another_attempt_gives_the_same_rows(spark: SparkSession, whole: tuple[Lake, Report]) -> None:
    lake, first = whole
    second = pipeline.run(spark, lake.spec(lake.segment(MANY)))
    assert rows(first.event_files) == rows(second.event_files)
    assert rows(first.rejected_files) == rows(second.rejected_files)
    assert counts(first) == counts(second)
    for name in first.tables:
        assert contents(first, name) == contents(second, name), name


# What fails


def test_a_table_that_fails_fails_the_batch(spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(changes: Changes) -> DataFrame:
        return changes.visits.select(F.raise_error(F.lit("no such luck")))

    monkeypatch.setattr(pipeline, "TABLES", (*TABLES, Table("failing", fail)))
    spec = lake.spec(lake.segment([record(0)]))
    with pytest.raises(Exception, match="no such luck"):
        pipeline.run(spark, spec)
    assert not local(spec.output.report).exists()
    assert list(spark.sparkContext.statusTracker().getActiveJobsIds()) == []


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
