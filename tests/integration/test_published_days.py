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
from collections.abc import Iterator
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
from tests.kit.waiting import wait_for
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


def today_for_a_while(pipeline: Pipeline) -> date:
    """The day that the database has, at a time when it has it for another minute."""
    today = (
        "SELECT at::date FROM (SELECT now() AT TIME ZONE 'UTC') n (at)"
        " WHERE (at + interval '1 minute')::date = at::date"
    )
    found: date = wait_for(lambda: pipeline.one(today), "day that goes on")
    return found


def snapshot(root: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_the_columns_are_those_of_the_events_zone_and_the_day() -> None:
    from pyspark.sql.pandas.types import to_arrow_schema

    assert to_arrow_schema(schemas.EVENTS, timezone="UTC").append(pa.field("day", pa.date32())) == days.SCHEMA


def test_closed_days_have_exactly_the_oracles_events(closed: Pipeline) -> None:
    records = two_days()
    outcome = publish(closed)
    assert (outcome.items, outcome.lines) == (2, [f"{FIRST}: 31 events written.", f"{SECOND}: 29 events written."])
    assert outcome.bytes == closed.one(
        "SELECT sum(bytes)::int FROM ledger.event_files WHERE hour < %s", MIDNIGHT + timedelta(days=2)
    )
    assert_table_is(closed, records, FIRST, SECOND)
    assert days.days_of(closed.settings) == [FIRST, SECOND]
    before = snapshot(folder(closed))
    assert publish(closed).items == 0  # a second run finds nothing to do
    assert snapshot(folder(closed)) == before


def test_a_day_closes_when_the_watermark_has_passed_it_by_lateness_and_two_minutes(closed: Pipeline) -> None:
    closed.conn.execute("UPDATE ledger.segments SET last_record_at = last_record_at - interval '1 ms'")
    assert publish(closed).items == 1
    assert days.days_of(closed.settings) == [FIRST]
    closed.conn.execute("UPDATE ledger.segments SET last_record_at = %s", [BOTH_CLOSED])
    assert publish(closed).items == 1
    assert_table_is(closed, two_days(), FIRST, SECOND)


def test_historic_events_of_a_closed_day_replace_that_day_only(closed: Pipeline, spark: SparkSession) -> None:
    records = two_days()
    publish(closed)
    untouched = files(closed, SECOND)
    late = event_record(len(records), MIDNIGHT + timedelta(hours=5), landed_at=BOTH_CLOSED, userId="historic")
    records.append(Record("t", 0, late.offset, late.timestamp_ms, None, late.value, HISTORIC))
    take(closed, spark, records[-1:])
    old = table(closed)
    assert publish(closed).lines == [f"{FIRST}: 32 events written."]
    assert_table_is(closed, records, FIRST, SECOND)
    assert files(closed, SECOND) == untouched
    assert old.to_pyarrow_table().num_rows == 60  # who had opened it reads on


def test_killed_between_the_commit_and_the_ledgers_row(closed: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    records = two_days()
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publish(closed)
    assert (days.days_of(closed.settings), noted(closed)) == ([FIRST], {})
    assert publish(closed).items == 2
    assert_table_is(closed, records, FIRST, SECOND)


def test_two_runs_beside_each_other(closed: Pipeline) -> None:
    records = two_days()
    with closed.connect() as other, ledger.alone(other) as alone:
        assert alone
        for outcome in (publish(closed), remove(closed)):
            assert (outcome.items, outcome.lines) == (0, [days.BUSY])
        assert days.days_of(closed.settings) == []
    outcomes: list[Any] = []

    def run() -> None:
        with closed.connect() as conn:
            outcomes.append(days.publish_days(conn, closed.settings, dry_run=False))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome.items for outcome in outcomes) == 2
    assert_table_is(closed, records, FIRST, SECOND)


def test_events_that_come_while_a_day_is_written_leave_it_to_the_next_run(
    closed: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    replace = days._replace
    late = event_record(len(records), MIDNIGHT + timedelta(hours=5), landed_at=BOTH_CLOSED)

    def then_one_more(*arguments: Any, **options: Any) -> int:
        done = replace(*arguments, **options)
        if len(records) == 62:
            records.append(Record("t", 0, late.offset, late.timestamp_ms, None, late.value, HISTORIC))
            take(closed, spark, records[-1:])
        return done

    monkeypatch.setattr(days, "_replace", then_one_more)
    assert publish(closed).lines[0].startswith(f"{FIRST}: its events changed while they were written")
    assert set(noted(closed)) == {SECOND}
    assert publish(closed).items == 1
    assert_table_is(closed, records, FIRST, SECOND)


def test_a_user_who_is_erased_makes_days_due_again(closed: Pipeline) -> None:
    publish(closed)
    insert = "INSERT INTO ledger.erasures (id_hash, kind, token) VALUES (%s, %s, %s)"
    closed.conn.execute(insert, [b"s" * 32, "session", "session-token"])
    assert publish(closed).items == 0
    closed.conn.execute(insert, [b"u" * 32, "user", "user-token"])
    assert publish(closed).items == 2
    assert noted(closed) == {FIRST: (31, 1), SECOND: (29, 1)}


def test_a_day_with_a_retired_hour_is_never_written_anew(closed: Pipeline) -> None:
    records = two_days()
    publish(closed)
    hour = closed.one("SELECT min(hour) FROM ledger.event_files")
    closed.conn.execute(
        "INSERT INTO ledger.retired_hours SELECT hour, sum(records) FROM ledger.event_files WHERE hour = %s GROUP BY 1",
        [hour],
    )
    closed.conn.execute("UPDATE ledger.event_files SET live = false WHERE hour = %s", [hour])
    assert publish(closed).items == 0
    assert_table_is(closed, records, FIRST, SECOND)


def test_files_that_are_not_what_the_ledger_says_are_never_published(
    closed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed.conn.execute("UPDATE ledger.event_files SET records = records + 1 WHERE hour = %s", [MIDNIGHT])
    with pytest.raises(OutputMismatch, match=rf"has \d+ rows, but(.|\n)*{SECOND}: 29 events written"):
        publish(closed)
    assert (days.days_of(closed.settings), set(noted(closed))) == ([SECOND], {SECOND})  # holds up no other day
    monkeypatch.setattr("clickstream.storage.verify", lambda _: None)
    with pytest.raises(OutputMismatch, match="would get 31 rows instead of 32"):
        publish(closed)
    assert (days.days_of(closed.settings), set(noted(closed))) == ([SECOND], {SECOND})


def test_a_table_with_other_rows_than_were_written_has_no_row_in_the_ledger(
    closed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(days, "_rows", lambda *_: 30)
    with pytest.raises(OutputMismatch, match=f"The table has 30 rows of {FIRST} instead of 31"):
        publish(closed)
    assert noted(closed) == {}


def renamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    users = pa.array(["token" if user == "secret-user-1" else user for user in batch["user_id"].to_pylist()])
    return batch.set_column(batch.schema.get_field_index("user_id"), "user_id", users)


def test_a_rewritten_day_has_as_many_rows_and_other_values(closed: Pipeline) -> None:
    assert days.rewrite_day(closed.settings, FIRST, renamed) == 0  # there is no table yet
    publish(closed)
    before = Counter(row["user_id"] for row in rows(closed) if row["day"] == FIRST)
    others = [row for row in rows(closed) if row["day"] == SECOND]
    assert days.rewrite_day(closed.settings, FIRST, renamed) == 31
    before["token"] = before.pop("secret-user-1")
    assert Counter(row["user_id"] for row in rows(closed) if row["day"] == FIRST) == before
    assert [row for row in rows(closed) if row["day"] == SECOND] == others
    version = table(closed).version()
    with pytest.raises(OutputMismatch, match="would get 30 rows instead of 31"):
        days.rewrite_day(closed.settings, FIRST, lambda batch: batch.slice(1))
    assert days.rewrite_day(closed.settings, FIRST - timedelta(days=1), renamed) == 0
    assert table(closed).version() == version


@pytest.mark.parametrize(("where", "what"), [(ledger, "content"), (days, "_batches")])
def test_of_two_writers_of_one_day_the_second_changes_nothing(
    closed: Pipeline, monkeypatch: pytest.MonkeyPatch, where: Any, what: str
) -> None:
    records = two_days()
    publish(closed)
    original = getattr(where, what)

    def overtaken(*arguments: Any) -> Any:
        read = original(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(where, what, original)
            days.rewrite_day(closed.settings, FIRST, renamed)
        return read

    closed.conn.execute("DELETE FROM ledger.published_days WHERE day = %s", [FIRST])
    with monkeypatch.context() as patch:
        patch.setattr(where, what, overtaken)
        outcome = publish(closed)
    assert outcome.items == 0
    assert "another writer of the table was first" in outcome.lines[0]
    assert "token" in {row["user_id"] for row in rows(closed)}

    def publishing(batch: pa.RecordBatch) -> pa.RecordBatch:
        assert publish(closed).items == 1
        return renamed(batch)

    with pytest.raises(CommitFailedError):
        days.rewrite_day(closed.settings, FIRST, publishing)
    assert_table_is(closed, records, FIRST, SECOND)


def test_of_two_first_writers_of_a_day_the_second_changes_nothing(
    closed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    content = ledger.content

    def overtaken(*arguments: Any) -> Any:  # as by one whose session, and lock, the database has lost
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "content", content)
            days._write(closed.conn, closed.settings, FIRST)
        return content(*arguments)

    days._create(closed.settings)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "content", overtaken)
        with pytest.raises(CommitFailedError):
            days._write(closed.conn, closed.settings, FIRST)
    assert len(rows(closed)) == 31
    assert publish(closed).items == 2
    assert_table_is(closed, records, FIRST, SECOND)


def test_a_field_that_is_added_to_the_contract_is_null_in_days_that_were_written_before(
    closed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    publish(closed)
    monkeypatch.setattr(days, "SCHEMA", days.SCHEMA.insert(20, pa.field("campaign", pa.string())))
    days.rewrite_day(closed.settings, SECOND, lambda batch: batch)
    assert {row["campaign"] for row in rows(closed)} == {None}
    assert_table_is(closed, records, FIRST, SECOND)
    monkeypatch.setattr(days, "SCHEMA", days.SCHEMA.remove(days.SCHEMA.get_field_index("region")))
    closed.conn.execute("DELETE FROM ledger.published_days")
    with pytest.raises(OutputMismatch, match=f"Column region of the events of {FIRST} is no field"):
        publish(closed)


def test_a_day_of_many_row_groups_and_files_is_read_whole_and_by_its_times(
    closed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = two_days()
    monkeypatch.setattr(days, "GROUP_ROWS", 4)
    monkeypatch.setattr(days, "TARGET_BYTES", 100)
    publish(closed)
    assert len(files(closed, FIRST)) > 3
    assert_table_is(closed, records, FIRST, SECOND)
    found = pa.table(table(closed).get_add_actions(flatten=True)).to_pylist()
    for row in found:
        times = pq.read_table(folder(closed) / row["path"])["event_time"].to_pylist()
        assert (row["min.event_time"], row["max.event_time"]) == (min(times), max(times))


def test_days_past_their_time_go_when_their_events_have_gone(closed: Pipeline) -> None:
    records = two_days()
    publish(closed)
    kept = (today_for_a_while(closed) - SECOND).days
    keep(closed, published_days=kept)
    assert remove(closed).items == 0  # its events are there
    retire(closed, FIRST)
    retire(closed, SECOND)
    closed.conn.execute("DELETE FROM ledger.published_days WHERE day = %s", [FIRST])  # as if killed before its row
    assert remove(closed).lines[0] == f"{FIRST}: removed."
    assert_table_is(closed, records, SECOND)
    assert publish(closed).items == 0
    version = table(closed).version()
    assert remove(closed).items == 0
    assert table(closed).version() == version
    keep(closed, published_days=kept, grace_hours=0)
    remove(closed)
    assert {path.name for path in folder(closed).iterdir()} == {"_delta_log", f"day={SECOND}"}


def test_files_go_only_when_no_version_within_the_grace_needs_them(closed: Pipeline) -> None:
    records = two_days()
    publish(closed)
    orphan, fresh = (folder(closed) / f"day={SECOND}" / name for name in ("killed.parquet", "writing.parquet"))
    for path in (orphan, fresh):
        path.write_bytes(b"rows of a writer that has not committed")
    long_ago = time.time() - 3 * 3600
    old = files(closed, FIRST)
    for path in {*old, *files(closed, SECOND)} - {fresh}:  # the files that stay are as old
        os.utime(path, (long_ago, long_ago))
    keep(closed, grace_hours=2)
    before = table(closed)
    days.rewrite_day(closed.settings, FIRST, lambda batch: batch)
    outcome = remove(closed)
    assert outcome.bytes == 39
    assert outcome.lines == ["1 files that no day has needed for 2 hours were removed."]
    assert not orphan.exists()
    assert before.to_pyarrow_table().num_rows == 60
    keep(closed, grace_hours=0)
    size = fresh.stat().st_size + sum(path.stat().st_size for path in old)
    assert remove(closed).bytes == size
    assert not [path for path in (*old, fresh) if path.exists()]
    assert_table_is(closed, records, FIRST, SECOND)


def test_a_dry_run_says_the_same_and_changes_nothing(closed: Pipeline) -> None:
    root = Path(closed.settings.storage_url.removeprefix("file://"))
    before = snapshot(root)
    promised = publish(closed, dry_run=True)
    assert snapshot(root) == before
    assert noted(closed) == {}
    done = publish(closed)
    assert (promised.items, promised.bytes) == (done.items, done.bytes)
    for day in (FIRST, SECOND):
        retire(closed, day)
    keep(closed, published_days=0, grace_hours=0)
    (folder(closed) / f"day={FIRST}" / "killed.parquet").write_bytes(b"x")
    before = snapshot(root)
    promised = remove(closed, dry_run=True)
    assert (promised.items, promised.bytes) == (2, 1)
    assert snapshot(root) == before
    assert set(noted(closed)) == {FIRST, SECOND}


def test_no_user_stands_in_the_tables_log_which_stays_bounded(closed: Pipeline) -> None:
    records = two_days()
    publish(closed)
    for _ in range(12):
        days.rewrite_day(closed.settings, FIRST, lambda batch: batch)
    log = folder(closed) / "_delta_log"
    checkpoints = list(log.glob("*.checkpoint.parquet"))
    assert checkpoints
    texts = [path.read_text() for path in log.glob("*.json")]
    texts += [json.dumps(pq.read_table(path).to_pylist(), default=str) for path in checkpoints]
    assert not [text for text in texts if "secret-user" in text]
    assert any('"numRecords' in text for text in texts)  # statistics there are
    for path in log.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    commits = len(list(log.glob("*.json")))
    remove(closed)
    assert len(list(log.glob("*.json"))) < commits - 5
    assert_table_is(closed, records, FIRST, SECOND)


def test_a_day_on_s3(closed: Pipeline, aws: Account) -> None:
    aws.client("s3").create_bucket(Bucket="days", CreateBucketConfiguration={"LocationConstraint": REGION})
    records = two_days()
    closed.use(storage_url="s3://days/zones")  # the event files stay where they are
    assert days.days_of(closed.settings) == []
    assert publish(closed).items == 2
    found = DeltaTable(days.table_url(closed.settings), storage_options=days._options(closed.settings))
    assert Counter(found.to_pyarrow_table()["event_id"].to_pylist()) == Counter(
        one.fields["eventId"] for one in accepted(records, FIRST, SECOND)
    )

    def overtaken(batch: pa.RecordBatch) -> pa.RecordBatch:
        days.rewrite_day(closed.settings, FIRST, renamed)
        return batch

    with pytest.raises(CommitFailedError):
        days.rewrite_day(closed.settings, FIRST, overtaken)
    keep(closed, grace_hours=0)
    outcome = remove(closed)
    assert outcome.bytes > 0
    listed = aws.client("s3").list_objects_v2(Bucket="days")["Contents"]
    left = {found["Key"] for found in listed if found["Key"].endswith(".parquet") and "_delta_log" not in found["Key"]}
    assert len(left) == 2
    assert days.rewrite_day(closed.settings, FIRST, lambda batch: batch) == 31


# The examples of the docs


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def published(closed_days: Pipeline) -> Iterator[list[oracle.Event]]:
    """The events of both days, published where the examples look for them."""
    pipeline = closed_days.copied()
    publish(pipeline)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLICKSTREAM_STORAGE_URL", pipeline.settings.storage_url)
        yield accepted(two_days(), FIRST, SECOND)
    pipeline.drop()


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


@pytest.mark.long
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
