"""Closed days as a Delta table: exact, replaced whole, gone when their time is over, and open to every engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from clickstream.errors import OutputMismatch
from clickstream.ledger import published_days as ledger
from clickstream.maintenance import days
from clickstream_transform import schemas
from infra.local import jars
from infra.local.java import find_java
from tests import oracle
from tests.kit.aws import REGION, Account
from tests.kit.events import event_record
from tests.kit.pipeline import Pipeline
from tests.kit.published import (
    BOTH_CLOSED,
    FIRST,
    MIDNIGHT,
    SECOND,
    accepted,
    assert_table_is,
    day_of,
    folder,
    noted,
    publish,
    remove,
    rows,
    table,
    take,
    two_days,
)
from tests.kit.records import HISTORIC
from tests.oracle import Record

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DOCS = Path(__file__).parents[2] / "docs" / "published-days.md"
DELTA = "4.4.0"
DELTA_MODULE = f"""\
<ivy-module version="2.0">
  <info organisation="clickstream" module="delta"/>
  <configurations><conf name="jars"/></configurations>
  <dependencies>
    <dependency org="io.delta" name="delta-spark_4.2_2.13" rev="{DELTA}" conf="jars->default" transitive="false"/>
    <dependency org="io.delta" name="delta-storage" rev="{DELTA}" conf="jars->default" transitive="false"/>
  </dependencies>
</ivy-module>
"""


def files(pipeline: Pipeline, day: date) -> set[Path]:
    return set((folder(pipeline) / f"day={day}").glob("*.parquet"))


def retire(pipeline: Pipeline, day: date) -> None:
    """What retention does to the hours of a day, as far as published days see it."""
    with pipeline.conn.transaction():
        pipeline.conn.execute(
            "INSERT INTO ledger.retired_hours (hour, events) SELECT hour, sum(records) FROM ledger.event_files"
            " WHERE live AND (hour AT TIME ZONE 'UTC')::date = %s GROUP BY hour",
            [day],
        )
        pipeline.conn.execute(
            "UPDATE ledger.event_files SET live = false WHERE (hour AT TIME ZONE 'UTC')::date = %s", [day]
        )


def keep(pipeline: Pipeline, **changes: int) -> None:
    pipeline.use(retention=pipeline.settings.retention.model_copy(update=changes))


def snapshot(root: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_the_columns_are_those_of_the_events_zone_and_the_day() -> None:
    from pyspark.sql.pandas.types import to_arrow_schema

    assert to_arrow_schema(schemas.EVENTS, timezone="UTC").append(pa.field("day", pa.date32())) == days.SCHEMA


def test_closed_days_have_exactly_the_oracles_events(pipeline: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    take(pipeline, spark, records)
    outcome = publish(pipeline)
    assert (outcome.items, outcome.lines) == (2, ["2026-11-18: 31 events written.", "2026-11-19: 29 events written."])
    assert outcome.bytes == pipeline.one(
        "SELECT sum(bytes)::int FROM ledger.event_files WHERE hour < %s", MIDNIGHT + timedelta(days=2)
    )
    assert_table_is(pipeline, records, FIRST, SECOND)
    assert days.days_of(pipeline.settings) == [FIRST, SECOND]
    before = snapshot(folder(pipeline))
    assert publish(pipeline).items == 0  # a second run finds nothing to do
    assert snapshot(folder(pipeline)) == before


def test_a_day_closes_when_the_watermark_has_passed_it_by_lateness_and_two_minutes(
    pipeline: Pipeline, spark: SparkSession
) -> None:
    closes = MIDNIGHT + timedelta(days=2, minutes=2)
    records = [event_record(0, MIDNIGHT), event_record(1, closes - timedelta(milliseconds=1))]
    take(pipeline, spark, records)
    assert publish(pipeline).items == 0
    assert days.days_of(pipeline.settings) == []
    records.append(event_record(2, closes))
    take(pipeline, spark, records[2:])
    assert publish(pipeline).items == 1
    assert_table_is(pipeline, records, FIRST)


def test_historic_events_of_a_closed_day_replace_that_day_only(pipeline: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    untouched = files(pipeline, SECOND)
    late = event_record(len(records), MIDNIGHT + timedelta(hours=5), landed_at=BOTH_CLOSED, userId="historic")
    records.append(Record("t", 0, late.offset, late.timestamp_ms, None, late.value, HISTORIC))
    take(pipeline, spark, records[-1:])
    old = table(pipeline)
    assert publish(pipeline).lines == ["2026-11-18: 32 events written."]
    assert_table_is(pipeline, records, FIRST, SECOND)
    assert files(pipeline, SECOND) == untouched
    assert old.to_pyarrow_table().num_rows == 60  # who had opened it reads on


def test_killed_between_the_commit_and_the_ledgers_row(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    take(pipeline, spark, records)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publish(pipeline)
    assert (days.days_of(pipeline.settings), noted(pipeline)) == ([FIRST], {})
    assert publish(pipeline).items == 2
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_two_runs_beside_each_other(pipeline: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    take(pipeline, spark, records)
    with pipeline.connect() as other, ledger.alone(other) as alone:
        assert alone
        for outcome in (publish(pipeline), remove(pipeline)):
            assert (outcome.items, outcome.lines) == (0, [days.BUSY])
        assert days.days_of(pipeline.settings) == []
    outcomes: list[Any] = []

    def run() -> None:
        with pipeline.connect() as conn:
            outcomes.append(days.publish_days(conn, pipeline.settings, dry_run=False))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome.items for outcome in outcomes) == 2
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_events_that_come_while_a_day_is_written_leave_it_to_the_next_run(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    take(pipeline, spark, records)
    replace = days._replace
    late = event_record(len(records), MIDNIGHT + timedelta(hours=5), landed_at=BOTH_CLOSED)

    def then_one_more(*arguments: Any, **options: Any) -> int:
        done = replace(*arguments, **options)
        if len(records) == 62:
            records.append(Record("t", 0, late.offset, late.timestamp_ms, None, late.value, HISTORIC))
            take(pipeline, spark, records[-1:])
        return done

    monkeypatch.setattr(days, "_replace", then_one_more)
    assert publish(pipeline).lines[0].startswith("2026-11-18: its events changed while they were written")
    assert set(noted(pipeline)) == {SECOND}
    assert publish(pipeline).items == 1
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_a_user_who_is_erased_makes_days_due_again(pipeline: Pipeline, spark: SparkSession) -> None:
    take(pipeline, spark, two_days())
    publish(pipeline)
    insert = "INSERT INTO ledger.erasures (id_hash, kind, token) VALUES (%s, %s, %s)"
    pipeline.conn.execute(insert, [b"s" * 32, "session", "session-token"])
    assert publish(pipeline).items == 0
    pipeline.conn.execute(insert, [b"u" * 32, "user", "user-token"])
    assert publish(pipeline).items == 2
    assert noted(pipeline) == {FIRST: (31, 1), SECOND: (29, 1)}


def test_a_day_with_a_retired_hour_is_never_written_anew(pipeline: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    hour = pipeline.one("SELECT min(hour) FROM ledger.event_files")
    pipeline.conn.execute("INSERT INTO ledger.retired_hours (hour, events) VALUES (%s, 2)", [hour])
    pipeline.conn.execute("UPDATE ledger.event_files SET live = false WHERE hour = %s", [hour])
    assert publish(pipeline).items == 0
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_files_that_are_not_what_the_ledger_says_are_never_published(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    take(pipeline, spark, records)
    pipeline.conn.execute("UPDATE ledger.event_files SET records = records + 1 WHERE hour = %s", [MIDNIGHT])
    with pytest.raises(OutputMismatch, match=r"has \d+ rows, but(.|\n)*2026-11-19: 29 events written"):
        publish(pipeline)
    assert (days.days_of(pipeline.settings), set(noted(pipeline))) == ([SECOND], {SECOND})  # holds up no other day
    monkeypatch.setattr("clickstream.storage.verify", lambda _: None)
    with pytest.raises(OutputMismatch, match="would get 31 rows instead of 32"):
        publish(pipeline)
    assert (days.days_of(pipeline.settings), set(noted(pipeline))) == ([SECOND], {SECOND})


def test_a_table_with_other_rows_than_were_written_has_no_row_in_the_ledger(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(pipeline, spark, two_days())
    monkeypatch.setattr(days, "_rows", lambda *_: 30)
    with pytest.raises(OutputMismatch, match="The table has 30 rows of 2026-11-18 instead of 31"):
        publish(pipeline)
    assert noted(pipeline) == {}


def renamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    users = pa.array(["token" if user == "secret-user-1" else user for user in batch["user_id"].to_pylist()])
    return batch.set_column(batch.schema.get_field_index("user_id"), "user_id", users)


def test_a_rewritten_day_has_as_many_rows_and_other_values(pipeline: Pipeline, spark: SparkSession) -> None:
    take(pipeline, spark, two_days())
    assert days.rewrite_day(pipeline.settings, FIRST, renamed) == 0  # there is no table yet
    publish(pipeline)
    before = Counter(row["user_id"] for row in rows(pipeline) if row["day"] == FIRST)
    others = [row for row in rows(pipeline) if row["day"] == SECOND]
    assert days.rewrite_day(pipeline.settings, FIRST, renamed) == 31
    before["token"] = before.pop("secret-user-1")
    assert Counter(row["user_id"] for row in rows(pipeline) if row["day"] == FIRST) == before
    assert [row for row in rows(pipeline) if row["day"] == SECOND] == others
    version = table(pipeline).version()
    with pytest.raises(OutputMismatch, match="would get 30 rows instead of 31"):
        days.rewrite_day(pipeline.settings, FIRST, lambda batch: batch.slice(1))
    assert days.rewrite_day(pipeline.settings, date(2026, 1, 1), renamed) == 0
    assert table(pipeline).version() == version


@pytest.mark.parametrize(("where", "what"), [(ledger, "content"), (days, "_batches")])
def test_of_two_writers_of_one_day_the_second_changes_nothing(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, where: Any, what: str
) -> None:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    original = getattr(where, what)

    def overtaken(*arguments: Any) -> Any:
        read = original(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(where, what, original)
            days.rewrite_day(pipeline.settings, FIRST, renamed)
        return read

    pipeline.conn.execute("DELETE FROM ledger.published_days WHERE day = %s", [FIRST])
    with monkeypatch.context() as patch:
        patch.setattr(where, what, overtaken)
        outcome = publish(pipeline)
    assert outcome.items == 0
    assert "another writer of the table was first" in outcome.lines[0]
    assert "token" in {row["user_id"] for row in rows(pipeline)}

    def publishing(batch: pa.RecordBatch) -> pa.RecordBatch:
        assert publish(pipeline).items == 1
        return renamed(batch)

    with pytest.raises(CommitFailedError):
        days.rewrite_day(pipeline.settings, FIRST, publishing)
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_of_two_first_writers_of_a_day_the_second_changes_nothing(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    take(pipeline, spark, records)
    content = ledger.content

    def overtaken(*arguments: Any) -> Any:  # as by one whose session, and lock, the database has lost
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "content", content)
            days._write(pipeline.conn, pipeline.settings, FIRST)
        return content(*arguments)

    days._create(pipeline.settings)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "content", overtaken)
        with pytest.raises(CommitFailedError):
            days._write(pipeline.conn, pipeline.settings, FIRST)
    assert len(rows(pipeline)) == 31
    assert publish(pipeline).items == 2
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_a_field_that_is_added_to_the_contract_is_null_in_days_that_were_written_before(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    monkeypatch.setattr(days, "SCHEMA", days.SCHEMA.insert(20, pa.field("campaign", pa.string())))
    days.rewrite_day(pipeline.settings, SECOND, lambda batch: batch)
    assert {row["campaign"] for row in rows(pipeline)} == {None}
    assert_table_is(pipeline, records, FIRST, SECOND)
    monkeypatch.setattr(days, "SCHEMA", days.SCHEMA.remove(days.SCHEMA.get_field_index("region")))
    pipeline.conn.execute("DELETE FROM ledger.published_days")
    with pytest.raises(OutputMismatch, match="Column region of the events of 2026-11-18 is no field"):
        publish(pipeline)


def test_a_day_of_many_row_groups_and_files_is_read_whole_and_by_its_times(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    take(pipeline, spark, records)
    monkeypatch.setattr(days, "GROUP_ROWS", 4)
    monkeypatch.setattr(days, "TARGET_BYTES", 100)
    publish(pipeline)
    assert len(files(pipeline, FIRST)) > 3
    assert_table_is(pipeline, records, FIRST, SECOND)
    found = pa.table(table(pipeline).get_add_actions(flatten=True)).to_pylist()
    for row in found:
        times = pq.read_table(folder(pipeline) / row["path"])["event_time"].to_pylist()
        assert (row["min.event_time"], row["max.event_time"]) == (min(times), max(times))


def test_days_past_their_time_go_when_their_events_have_gone(pipeline: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    today = pipeline.one("SELECT (now() AT TIME ZONE 'UTC')::date")
    keep(pipeline, published_days=(today - SECOND).days)
    assert remove(pipeline).items == 0  # its events are there
    retire(pipeline, FIRST)
    retire(pipeline, SECOND)
    pipeline.conn.execute("DELETE FROM ledger.published_days WHERE day = %s", [FIRST])  # as if killed before its row
    assert remove(pipeline).lines[0] == "2026-11-18: removed."
    assert_table_is(pipeline, records, SECOND)
    assert publish(pipeline).items == 0
    version = table(pipeline).version()
    assert remove(pipeline).items == 0
    assert table(pipeline).version() == version
    keep(pipeline, published_days=(today - SECOND).days, grace_hours=0)
    remove(pipeline)
    assert {path.name for path in folder(pipeline).iterdir()} == {"_delta_log", f"day={SECOND}"}


def test_files_go_only_when_no_version_within_the_grace_needs_them(pipeline: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    orphan, fresh = (folder(pipeline) / f"day={SECOND}" / name for name in ("killed.parquet", "writing.parquet"))
    for path in (orphan, fresh):
        path.write_bytes(b"rows of a writer that has not committed")
    long_ago = time.time() - 3 * 3600
    old = files(pipeline, FIRST)
    for path in {*old, *files(pipeline, SECOND)} - {fresh}:  # the files that stay are as old
        os.utime(path, (long_ago, long_ago))
    keep(pipeline, grace_hours=2)
    before = table(pipeline)
    days.rewrite_day(pipeline.settings, FIRST, lambda batch: batch)
    outcome = remove(pipeline)
    assert outcome.bytes == 39
    assert outcome.lines == ["1 files that no day has needed for 2 hours were removed."]
    assert not orphan.exists()
    assert before.to_pyarrow_table().num_rows == 60
    keep(pipeline, grace_hours=0)
    size = fresh.stat().st_size + sum(path.stat().st_size for path in old)
    assert remove(pipeline).bytes == size
    assert not [path for path in (*old, fresh) if path.exists()]
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_a_dry_run_says_the_same_and_changes_nothing(pipeline: Pipeline, spark: SparkSession) -> None:
    take(pipeline, spark, two_days())
    root = Path(pipeline.settings.storage_url.removeprefix("file://"))
    before = snapshot(root)
    promised = publish(pipeline, dry_run=True)
    assert snapshot(root) == before
    assert noted(pipeline) == {}
    done = publish(pipeline)
    assert (promised.items, promised.bytes) == (done.items, done.bytes)
    for day in (FIRST, SECOND):
        retire(pipeline, day)
    keep(pipeline, published_days=0, grace_hours=0)
    (folder(pipeline) / f"day={FIRST}" / "killed.parquet").write_bytes(b"x")
    before = snapshot(root)
    promised = remove(pipeline, dry_run=True)
    assert (promised.items, promised.bytes) == (2, 1)
    assert snapshot(root) == before
    assert set(noted(pipeline)) == {FIRST, SECOND}


def test_no_user_stands_in_the_tables_log_which_stays_bounded(pipeline: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    for _ in range(12):
        days.rewrite_day(pipeline.settings, FIRST, lambda batch: batch)
    log = folder(pipeline) / "_delta_log"
    checkpoints = list(log.glob("*.checkpoint.parquet"))
    assert checkpoints
    texts = [path.read_text() for path in log.glob("*.json")]
    texts += [json.dumps(pq.read_table(path).to_pylist(), default=str) for path in checkpoints]
    assert not [text for text in texts if "secret-user" in text]
    assert any('"numRecords' in text for text in texts)  # statistics there are
    for path in log.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    commits = len(list(log.glob("*.json")))
    remove(pipeline)
    assert len(list(log.glob("*.json"))) < commits - 5
    assert_table_is(pipeline, records, FIRST, SECOND)


def test_a_day_on_s3(pipeline: Pipeline, spark: SparkSession, aws: Account) -> None:
    aws.client("s3").create_bucket(Bucket="days", CreateBucketConfiguration={"LocationConstraint": REGION})
    records = two_days()
    take(pipeline, spark, records)
    pipeline.use(storage_url="s3://days/zones")  # the event files stay where they are
    assert days.days_of(pipeline.settings) == []
    assert publish(pipeline).items == 2
    found = DeltaTable(days.table_url(pipeline.settings), storage_options=days._options(pipeline.settings))
    assert Counter(found.to_pyarrow_table()["event_id"].to_pylist()) == Counter(
        one.fields["eventId"] for one in accepted(records, FIRST, SECOND)
    )

    def overtaken(batch: pa.RecordBatch) -> pa.RecordBatch:
        days.rewrite_day(pipeline.settings, FIRST, renamed)
        return batch

    with pytest.raises(CommitFailedError):
        days.rewrite_day(pipeline.settings, FIRST, overtaken)
    keep(pipeline, grace_hours=0)
    outcome = remove(pipeline)
    assert outcome.bytes > 0
    listed = aws.client("s3").list_objects_v2(Bucket="days")["Contents"]
    left = {found["Key"] for found in listed if found["Key"].endswith(".parquet") and "_delta_log" not in found["Key"]}
    assert len(left) == 2
    assert days.rewrite_day(pipeline.settings, FIRST, lambda batch: batch) == 31


# The examples of the docs


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def published(pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> list[oracle.Event]:
    records = two_days()
    take(pipeline, spark, records)
    publish(pipeline)
    monkeypatch.setenv("CLICKSTREAM_STORAGE_URL", pipeline.settings.storage_url)
    return accepted(records, FIRST, SECOND)


def example(text: str) -> Any:
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102 - as a reader of the docs would
    return names["result"]


def test_the_example_for_duckdb(published: list[oracle.Event]) -> None:
    code = blocks("python")[0]
    expected = [
        (
            day,
            len(of_day := [one for one in published if day_of(one) == day]),
            len({one.fields["userId"] for one in of_day}),
            len({one.fields["sessionId"] for one in of_day}),
        )
        for day in (FIRST, SECOND)
    ]
    assert example(code).fetchall() == expected
    athena = blocks("sql")[1]
    assert " ".join(athena.split()) in " ".join(code.split())


def test_the_example_for_polars(published: list[oracle.Event]) -> None:
    sums: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    for one in published:
        if one.kind == "PURCHASE":
            sums[one.fields["currency"], one.fields["productId"]].append(Decimal(one.fields["amount"]))
    expected = sorted((key[0], -sum(found), key[1], len(found)) for key, found in sums.items())
    assert example(blocks("python")[1]).rows() == [
        (currency, product, count, -amount) for currency, amount, product, count in expected
    ]


def test_the_example_for_spark(published: list[oracle.Event]) -> None:
    (command,) = blocks("sh")
    assert f"--packages io.delta:delta-spark_4.2_2.13:{DELTA} " in command
    options = dict(option.split("=") for option in re.findall(r"--conf (\S+)", command))
    folder = jars.fetch(f"delta-{DELTA}", DELTA_MODULE, find_java())
    program = f"""
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master("local[1]").config(map={options!r})
    .config("spark.jars", {",".join(map(str, folder.glob("*.jar")))!r})
    .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "1").getOrCreate()
)
{blocks("python")[2]}
print("FOUND", {{str(row.day): row.users for row in result.collect()}})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    kinds: dict[tuple[date, str], set[str]] = defaultdict(set)
    for one in published:
        kinds[day_of(one), one.fields["userId"]].add(one.kind)
    expected = Counter(str(day) for (day, _), of in kinds.items() if "ADD_TO_CART" in of and "PURCHASE" not in of)
    assert f"FOUND {dict(sorted(expected.items()))}" in done.stdout
