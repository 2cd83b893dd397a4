"""A user who is erased is nowhere any more, no number has changed, and nothing brings her back."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from clickstream import storage
from clickstream.drain import land
from clickstream.erasure import erase
from clickstream.errors import OutputMismatch, RemedyRefused, SettingsError, StaleAttempt, StaleBase
from clickstream.ledger import drains, erasures, published_days, retirement
from clickstream.maintenance import compaction, days, zones
from clickstream.remedies import refill
from tests.kit import aging, erasing, published
from tests.kit.erasing import IDS, USER, assert_gone, erased, mapped_log
from tests.kit.events import values
from tests.kit.own_topic import take_own_topic
from tests.kit.pipeline import RUN, TABLES, Pipeline
from tests.kit.records import HISTORIC, event
from tests.kit.waiting import eventually
from tests.oracle import Record

TOKEN = re.compile("erased-[0-9a-f]{32}")


@pytest.fixture(scope="module")
def settled_user(known_user: Pipeline, spark: SparkSession) -> Iterator[Pipeline]:
    """The same user, of whom no segment waits; to be copied."""
    pipeline = known_user.copied()
    pipeline.aggregate_all(spark)
    pipeline.close()
    yield pipeline
    pipeline.drop()


@pytest.fixture
def settled(settled_user: Pipeline) -> Iterator[Pipeline]:
    """A copy of it, with a topic of its own."""
    pipeline = settled_user.copied()
    take_own_topic(pipeline)
    yield pipeline
    pipeline.drop()


@pytest.fixture(scope="module")
def erased_user(known_user: Pipeline, spark: SparkSession) -> Iterator[Pipeline]:
    """The same user once she was erased, of whom no segment waits; to be copied."""
    pipeline = known_user.copied()
    erased(pipeline)
    pipeline.aggregate_all(spark)
    pipeline.close()
    yield pipeline
    pipeline.drop()


@pytest.fixture
def away(erased_user: Pipeline) -> Iterator[Pipeline]:
    """A copy of it, with a topic of its own."""
    pipeline = erased_user.copied()
    take_own_topic(pipeline)
    yield pipeline
    pipeline.drop()


def tables(pipeline: Pipeline) -> dict[str, Any]:
    return {name: pipeline.table(name) for name in TABLES}


def without_ids(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """Rows with one word for every id and token, so that what differs are numbers."""
    ids = re.compile("|".join([TOKEN.pattern + "-*", *map(re.escape, IDS)]))
    return {name: sorted(ids.sub("?", row) for row in table) for name, table in rows.items()}


def test_she_is_nowhere_and_no_number_has_changed(known: Pipeline, spark: SparkSession) -> None:
    before, sessions = erasing.dump(known), known.table("sessions")
    counts = erased(known)
    after = erasing.dump(known)
    for name in before:
        if name.startswith("analytics.") or name in {"ledger.batches", "ledger.partitions", "ledger.rejected_counts"}:
            assert without_ids({name: after[name]}) == without_ids({name: before[name]}), name
    of_list = erasing.tokens(known)
    assert known.table("sessions") == {
        of_list.of_session(session) or session: row | {"user_id": of_list.of_user(row["user_id"]) or row["user_id"]}
        for session, row in sessions.items()
    }
    assert counts == {
        "raw": 58, "events": 26 + 9, "rejected": 12, "archive": 26 + 9,
        "sessions": 3, "session_hours": counts["session_hours"], "users_by_hour": counts["users_by_hour"],
        "published_days": 0,
    }  # fmt: skip
    assert_gone(known)
    assert known.unaccounted() == {}
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert known.one("SELECT finished_at >= committed_at FROM ledger.erasure_requests") is True
    assert known.one("SELECT counts FROM ledger.erasure_requests") == counts
    assert_gone(known)


def test_a_dry_run_counts_the_same_and_changes_nothing(known: Pipeline) -> None:
    before, files = erasing.dump(known), erasing.left_in_files(known)
    would = erased(known, dry_run=True)
    assert erasing.dump(known) == before
    assert erasing.left_in_files(known) == files
    assert would == erased(known)
    assert all(count == 0 for count in erased(known, dry_run=True).values())


def test_nothing_brings_her_back(away: Pipeline, spark: SparkSession) -> None:
    accepted = away.dispositions()["accepted"]
    away.produce([(record.partition, record.value) for record in away.log()], headers=HISTORIC)
    span = refill.Span.parse(erasing.at(600), erasing.at(0))
    assert refill.refill(away.conn, away.settings, span, producer_id=None, dry_run=False).records >= 70
    away.drain_all()
    away.aggregate_all(spark)
    assert away.dispositions()["accepted"] == accepted + 2  # what was late the first time is historic the second
    away.assert_equals_oracle(mapped_log(away))
    assert_gone(away)


def test_a_recreated_topic_counts_as_duplicates(away: Pipeline, spark: SparkSession) -> None:
    values_of_log = [(record.partition, record.value) for record in away.log()]
    before, accepted = tables(away), away.dispositions()["accepted"]
    away.delete_topic()
    away.create_topic()
    away.plan()
    for row in drains.progress(away.conn, away.settings.topic):
        lost = drains.Range(
            topic=row.topic, topic_id=row.topic_id, partition=row.partition, first_offset=row.next_offset,
            end_offset=row.next_offset,
        )  # fmt: skip
        drains.declare_lost(away.conn, lost, kind="recreated", reason="test", dag_run_id="test", close=True)
    away.produce(values_of_log)
    away.drain_all()
    away.aggregate_all(spark)
    assert away.dispositions()["accepted"] == accepted
    assert tables(away) == before
    assert_gone(away)


def test_two_incarnations_of_a_topic_with_the_same_offsets(pipeline: Pipeline, spark: SparkSession) -> None:
    erasing.use_key(pipeline)
    now = time.time_ns() // 1_000_000
    records = [
        Record(topic_id, 0, offset, now, b"k", json.dumps(one).encode())
        for topic_id, user in (("first", USER), ("second", "u1"))
        for offset, one in enumerate(
            event(eventId=f"{topic_id}-{n}", userId=by, sessionId="shared-session", eventTime=erasing.at(n))
            for n, by in enumerate((USER, user))
        )
    ]
    pipeline.land_records(records[:2])
    pipeline.conn.execute("UPDATE ledger.partitions SET closed_at = now()")
    pipeline.land_records(records[2:])
    assert {file.path.rpartition("/")[2] for file in erasures.files(pipeline.conn)} == {"0-2.parquet"}
    for user in (USER, "u1"):
        assert erased(pipeline, user)["raw"] > 0
        named = [file.path.rpartition("/")[2] for file in erasures.files(pipeline.conn)]
        assert [name for name in named if re.fullmatch(r"0-2(-[0-9a-f]{16})?\.parquet", name)] == named
    pipeline.aggregate_all(spark)
    pipeline.assert_equals_oracle(mapped_log(pipeline, records))
    assert_gone(pipeline)


def test_she_comes_back_in_a_session_of_her_own(known: Pipeline, spark: SparkSession) -> None:
    take_own_topic(known)
    erased(known)
    new = [event(eventId=f"new-{n}", userId=USER, sessionId="a new one", eventTime=erasing.at(n)) for n in range(4)]
    known.produce(erasing.spread(new))
    known.drain_all()
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known, [*IDS, "a new one"])


def test_an_attempt_that_began_before_does_not_commit(known: Pipeline, spark: SparkSession) -> None:
    take_own_topic(known)
    known.produce(erasing.spread(erasing.hers()[:6]))
    landed = [known.land(drain_id) for drain_id in known.plan()]
    transformed = known.attempt(spark)
    assert transformed is not None
    erased(known)
    with pytest.raises(StaleAttempt, match="a user was erased meanwhile"):
        known.commit(landed)
    with pytest.raises(StaleBase, match="A user was erased"):
        known.publish(transformed)
    known.drain_all()
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known)


def back(pipeline: Pipeline) -> bool:
    """Whether she is in the database, or in a file that the ledger names."""
    named = {file.path.removeprefix("file://") for file in erasures.files(pipeline.conn)}
    in_files = {user for path, user in erasing.left_in_files(pipeline) if path in named}
    return USER in in_files | {user for _, user in erasing.left_in_database(pipeline)}


def test_without_the_guard_of_drains_she_would_be_back(known: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    take_own_topic(known)
    known.produce(erasing.spread(erasing.hers()[:6]))
    landed = [known.land(drain_id) for drain_id in known.plan()]
    erased(known)
    assert not back(known)
    monkeypatch.setattr(erasures, "has_grown_since", lambda *_: False)
    known.commit(landed)
    assert back(known)


def test_without_the_guard_of_batches_she_would_be_back(
    settled: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = event(eventId="x", userId=USER, sessionId="hers-one", eventTime=erasing.at(600))
    settled.produce(erasing.spread([alone]))  # in an hour without files, which no other guard looks at
    settled.drain_all()
    transformed = settled.attempt(spark)
    assert transformed is not None
    erased(settled)
    assert not back(settled)
    with pytest.raises(StaleBase):
        settled.publish(transformed)
    monkeypatch.setattr(erasures, "has_grown_since", lambda *_: False)
    settled.publish(transformed)
    assert back(settled)


def test_attempts_that_committed_before_may_say_so_again(known: Pipeline, spark: SparkSession) -> None:
    take_own_topic(known)
    known.produce(erasing.spread(erasing.hers()[:6]))
    landed = [known.land(drain_id) for drain_id in known.plan()]
    known.commit(landed)
    attempt_id = known.attempt(spark)
    assert attempt_id is not None
    known.publish(attempt_id)
    erased(known)
    assert known.commit(landed) == 2
    assert known.publish(attempt_id) is False


def test_what_is_landed_while_it_reads_is_read_too(known: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    take_own_topic(known)
    commit = erase._commit
    rounds: list[bool] = []

    def late(*arguments: Any) -> bool:
        if not rounds:
            known.produce(
                erasing.spread([event(eventId="x", userId=USER, sessionId="the last", eventTime=erasing.at(0))])
                + erasing.spread([event(eventId="y", userId="u1", sessionId="the last", eventTime=erasing.at(0))])
            )
            known.drain_all()
        rounds.append(commit(*arguments))
        return rounds[-1]

    monkeypatch.setattr(erase, "_commit", late)
    erased(known)
    assert rounds == [False, True]
    assert_gone(known, [*IDS, "the last"])


def test_what_was_written_for_a_file_that_is_gone_goes_too(
    settled: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Her files of an hour are compacted after they were written anew, and then she has one more session."""
    commit = erase._commit
    rounds: list[bool] = []

    def compacted(*arguments: Any) -> bool:
        if not rounds:
            settled.produce(
                erasing.spread([event(eventId="x", userId=USER, sessionId="the last", eventTime=erasing.at(0))])
            )
            settled.drain_all()
        rounds.append(commit(*arguments))
        if not rounds[-1]:
            hours = settled.conn.execute("SELECT DISTINCT hour FROM ledger.event_files WHERE live").fetchall()
            for (hour,) in hours:
                compaction.compact_hour(settled.conn, settled.settings, hour, RUN)
        return rounds[-1]

    monkeypatch.setattr(erase, "_commit", compacted)
    erased(settled)
    assert rounds == [False, True]
    settled.aggregate_all(spark)
    aging.sweep_after_grace(settled)
    aging.assert_files_are_as_named(settled)
    settled.assert_equals_oracle(mapped_log(settled))
    assert_gone(settled, [*IDS, "the last"])


def test_what_is_published_after_excerpts_were_read_is_read_too(
    settled: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = json.dumps(event(userId="u1", sessionId="s1", eventType="JUMP")).encode()
    settled.produce([(0, value) for value in [faulty, *erasing.rejected()]])
    settled.drain_all()
    commit, replace = erase._commit, erasures.replace_excerpts
    rounds: list[bool] = []
    sent: list[str] = []

    def after_a_batch(*arguments: Any) -> bool:
        settled.aggregate_all(spark)
        rounds.append(commit(*arguments))
        return rounds[-1]

    def noted(conn: Any, excerpts: Any) -> int:
        if not rounds:
            sent.extend(excerpts.values())
        return replace(conn, excerpts)

    monkeypatch.setattr(erase, "_commit", after_a_batch)
    monkeypatch.setattr(erasures, "replace_excerpts", noted)
    erased(settled)
    assert rounds == [True]
    assert len(sent) == 18
    assert all("erased-" in text for text in sent)
    assert settled.one("SELECT count(*) FROM ledger.rejections WHERE excerpt LIKE '%%u1%%'") == 1
    monkeypatch.setattr(erase, "_rewrite_rejected", None)
    assert erasing.left_in_database(settled) == []


def test_a_user_of_a_session_that_has_a_token_already(settled: Pipeline, spark: SparkSession) -> None:
    alone = [
        event(eventId=f"a{n}", userId="before-login", sessionId="shared-session", eventTime=erasing.at(400))
        for n in range(2)
    ]
    settled.produce(erasing.spread(alone))
    settled.drain_all()
    settled.aggregate_all(spark)
    erased(settled)
    assert settled.one("SELECT count(*) FROM analytics.session_hours WHERE user_id = 'before-login'") > 0
    would = erased(settled, "before-login", dry_run=True)
    assert would["session_hours"] > 0
    assert erased(settled, "before-login") == would
    settled.aggregate_all(spark)
    settled.assert_equals_oracle(mapped_log(settled))
    assert_gone(settled, [*IDS, "before-login"])


def somebody_waits(pipeline: Pipeline) -> bool:
    """Whether a session waits for a lock that another one holds."""
    waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with pipeline.connect() as own:
        return own.execute(f"SELECT {waiting}").fetchone() is not None


def test_raw_files_are_not_retired_while_they_are_swapped(known: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    known.conn.execute("UPDATE ledger.batches SET published_at = now() - interval '60 days'")
    settle = erasures.settle_rewrite
    retiring: list[Future[None]] = []

    def retire() -> None:
        with known.connect() as own:
            retirement.retire_raw_files(own, 30)

    with ThreadPoolExecutor(1) as pool:

        def beside(*arguments: Any) -> None:
            retiring.append(pool.submit(retire))
            assert eventually(lambda: retiring[0].done() or somebody_waits(known))
            settle(*arguments)

        monkeypatch.setattr(erasures, "settle_rewrite", beside)
        erased(known)
        retiring[0].result()
    assert known.one("SELECT count(*) FROM ledger.segments WHERE path IS NOT NULL AND batch_id IS NOT NULL") == 0
    assert known.unaccounted() == {}
    aging.sweep_after_grace(known)
    aging.assert_files_are_as_named(known)
    assert_gone(known)


def test_it_may_take_longer_than_the_grace(known: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = erase._commit

    def days_later(*arguments: Any) -> bool:
        known.conn.execute("UPDATE ledger.rewrites SET created_at = now() - interval '60 days'")
        with known.connect() as own:
            zones.sweep_dead(own, known.settings, dry_run=False)
        return commit(*arguments)

    monkeypatch.setattr(erase, "_commit", days_later)
    erased(known)
    assert_gone(known)
    given_up = erasures.register_rewrite(known.conn, 0, RUN)
    known.conn.execute("UPDATE ledger.rewrites SET created_at = now() - interval '60 days'")
    zones.sweep_dead(known.conn, known.settings, dry_run=False)
    assert known.one("SELECT state FROM ledger.rewrites WHERE attempt_id = %s", given_up) == "dead"


def test_a_minute_of_the_archive_that_retires_meanwhile(known: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = storage.replace
    gone: list[str] = []

    def retired(root: str, url: str, write: Any) -> None:
        if not gone and "/archive/" in url:
            gone.append(url)
            storage.remove(url)
        replace(root, url, write)

    monkeypatch.setattr(storage, "replace", retired)
    before = aging.files(known, "archive")
    counts = erased(known)
    assert aging.files(known, "archive") == before - set(gone)
    assert 0 < counts["archive"] < 26 + 9
    assert_gone(known)


def test_files_that_come_faster_than_they_are_read(known: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "_commit", lambda *_: False)
    before = tables(known)
    with pytest.raises(RemedyRefused, match="10 times in a row"):
        erased(known)
    assert tables(known) == before


def test_a_second_user_and_the_first_one_again(known: Pipeline, spark: SparkSession) -> None:
    erased(known)
    erased(known, "u3")
    assert known.one("SELECT count(*) FROM ledger.erasures WHERE kind = 'user'") == 2
    assert sum(erased(known).values()) == 0
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known, [*IDS, '"u3"'])


def test_attempts_at_work_when_it_is_repeated_keep_their_files(away: Pipeline, spark: SparkSession) -> None:
    away.produce(erasing.spread(erasing.hers()[:6]))
    landed = [away.land(drain_id) for drain_id in away.plan()]
    erased(away)
    erasing.remove(away)
    away.commit(landed)
    transformed = away.attempt(spark)
    assert transformed is not None
    erased(away)
    erasing.remove(away)
    away.publish(transformed)
    away.aggregate_all(spark)
    away.assert_equals_oracle(mapped_log(away))
    named = [file.path for file in erasures.files(away.conn)]
    assert [path for path in named if not Path(path.removeprefix("file://")).exists()] == []


def test_published_days(closed: Pipeline) -> None:
    erasing.use_key(closed)
    records = published.two_days()
    published.publish(closed)
    versions = published.table(closed).version()
    assert erased(closed, "nobody", dry_run=True)["published_days"] == 0
    counts = erased(closed, "secret-user-1", dry_run=True)
    assert counts["published_days"] == counts["events"] > 0
    assert erased(closed, "secret-user-1") == counts
    assert published.table(closed).version() == versions + 2
    published.assert_table_is(closed, mapped_log(closed, records), published.FIRST, published.SECOND)
    assert {seen for _, seen in published.noted(closed).values()} == {1}
    assert published.publish(closed).items == 0
    assert erased(closed, "later")["published_days"] == 0  # of a day that is not closed
    assert published.table(closed).version() == versions + 2
    published.table(closed).vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert_gone(closed, ["secret-user-1"])


def test_a_day_that_was_read_before_is_looked_at_after_it_was_published(
    closed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasing.use_key(closed)
    records = published.two_days()
    content, began = published_days.content, threading.Event()

    def read_long(*arguments: Any) -> Any:
        found = content(*arguments)
        began.set()
        assert eventually(lambda: somebody_waits(closed), seconds=60)  # the erasure, for this one
        return found

    def publish() -> None:
        with closed.connect() as own:
            days.publish_days(own, closed.settings, dry_run=False)

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr(published_days, "content", read_long)
        publisher = pool.submit(publish)
        assert began.wait(60)
        patch.setattr(published_days, "content", content)
        erased(closed, "secret-user-1")
        publisher.result()
    assert "secret-user-1" not in {row["user_id"] for row in published.rows(closed)}
    published.publish(closed)
    published.assert_table_is(closed, mapped_log(closed, records), published.FIRST, published.SECOND)
    assert {seen for _, seen in published.noted(closed).values()} == {1}


def test_two_at_once(known: Pipeline) -> None:
    with known.connect() as other:
        erasures.enter(other)
        with pytest.raises(RemedyRefused, match="Another erasure is running"):
            erased(known)
        erasures.leave(other)
    assert erased(known)["raw"] > 0


def test_nobody_of_that_name(known: Pipeline) -> None:
    before = erasing.dump(known)
    assert sum(erased(known, "nobody").values()) == 0
    after = erasing.dump(known)
    for table in ("ledger.segments", "ledger.event_files", "analytics.sessions"):
        assert after[table] == before[table]


def test_ids_that_no_event_has(pipeline: Pipeline) -> None:
    for user_id in ("", "x" * 257, "a\0b", "a\ud800", "erased-" + 32 * "0"):
        with pytest.raises(RemedyRefused, match=r"1 to 256 characters|is the token"):
            erased(pipeline, user_id)


def test_without_a_key_nobody_is_erased_and_the_list_is_not_ignored(known: Pipeline, tmp_path: Path) -> None:
    take_own_topic(known)
    key = known.settings.erasure_key_file
    known.use(erasure_key_file=None)
    with pytest.raises(SettingsError, match="only be erased, and kept out, with a key"):
        erased(known)
    known.use(erasure_key_file=key)
    erased(known)
    known.produce(erasing.spread(erasing.hers()[:2]))
    drain_ids = known.plan()
    attempts = known.one("SELECT count(*) FROM ledger.attempts")
    for wrong, message in (
        (None, "is not set, but users were erased"),
        (tmp_path / "missing", "can't be read"),
        (file_with(tmp_path / "short", "short"), "has 5 characters"),
        (file_with(tmp_path / "other", "x" * 32), "is not the one"),
    ):
        known.use(erasure_key_file=wrong)
        with pytest.raises(SettingsError, match=message):
            known.land(drain_ids[0])
        with pytest.raises(SettingsError, match=message):
            erased(known)
    assert known.one("SELECT count(*) FROM ledger.attempts") == attempts


def file_with(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_events_whose_columns_do_not_give_their_fingerprint(known: Pipeline) -> None:
    (path, *_), *_ = known.conn.execute(
        "SELECT path FROM ledger.event_files WHERE live ORDER BY records DESC LIMIT 1"
    ).fetchall()
    local = path.removeprefix("file://")
    table = pq.ParquetFile(local).read()
    pages = pa.array(["/forged"] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index("page"), "page", pages), local)
    before = erasing.dump(known)
    with pytest.raises(OutputMismatch, match=r"part-.*does not have the fingerprint of its columns"):
        erased(known)
    after = erasing.dump(known)
    assert {name for name in after if after[name] != before[name]} == {
        "ledger.erasure_requests",
        "ledger.rewrites",
    }


def test_a_log_names_nobody(known: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="clickstream")
    erased(known)
    assert "committed" in caplog.text
    assert not [one for one in IDS if one in caplog.text]


def test_nothing_is_mapped_while_nobody_is_erased(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land, "_without_erased", None)
    pipeline.create_topic()
    pipeline.produce(values(10))
    assert pipeline.drain() == 2


def test_grafana_does_not_see_the_list(known: Pipeline) -> None:
    erased(known)
    password = (known.stack.secrets / "grafana_reader").read_text()
    with (
        psycopg.connect(
            host="127.0.0.1",
            port=known.stack.ports.postgres,
            dbname=known.database,
            user="grafana_reader",
            password=password,
        ) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute("SELECT * FROM ledger.erasures")
