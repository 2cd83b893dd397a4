"""A user who is erased is nowhere any more, no number has changed, and nothing brings her back."""

from __future__ import annotations

import json
import re
import threading
import time
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
from tests.kit.pipeline import RUN, TABLES, Pipeline
from tests.kit.records import event
from tests.oracle import Record

TOKEN = re.compile("erased-[0-9a-f]{32}")


@pytest.fixture
def known(pipeline: Pipeline, spark: SparkSession) -> Pipeline:
    """A user who is in two batches, a segment that waits, the archive, and the rejected zone."""
    erasing.use_key(pipeline)
    pipeline.create_topic()
    hers, others = erasing.spread(erasing.hers()), erasing.spread(erasing.others())
    pipeline.produce([*hers[:15], *others])
    erasing.archive_all(pipeline, [*hers, *others])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.produce([*hers[10:], *[(0, value) for value in erasing.rejected()]])
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.produce(erasing.spread(erasing.hers()[:4], ensure_ascii=False))
    pipeline.drain_all()
    assert {user for _, user in erasing.left_in_files(pipeline)} == set(IDS)
    erasures.take_statistics(pipeline.conn)
    assert USER in "".join(erasing.statistics(pipeline))
    return pipeline


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
        "raw": 51, "events": 26 + 9, "rejected": 6, "archive": 26 + 9,
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


def test_nothing_brings_her_back(known: Pipeline, spark: SparkSession) -> None:
    log = known.log()
    erased(known)
    known.aggregate_all(spark)
    accepted = known.dispositions()["accepted"]
    known.produce([(record.partition, record.value) for record in log], headers=[("clickstream-load", b"historic")])
    span = refill.Span.parse(erasing.at(200), erasing.at(0))
    assert refill.refill(known.conn, known.settings, span, producer_id=None, dry_run=False).records >= 70
    known.drain_all()
    known.aggregate_all(spark)
    assert known.dispositions()["accepted"] == accepted + 1  # what was late the first time is historic the second
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known)


def test_a_recreated_topic_counts_as_duplicates(known: Pipeline, spark: SparkSession) -> None:
    values_of_log = [(record.partition, record.value) for record in known.log()]
    erased(known)
    known.aggregate_all(spark)
    before, accepted = tables(known), known.dispositions()["accepted"]
    known.delete_topic()
    known.create_topic()
    known.plan()
    for row in drains.progress(known.conn, known.settings.topic):
        lost = drains.Range(
            topic=row.topic, topic_id=row.topic_id, partition=row.partition, first_offset=row.next_offset,
            end_offset=row.next_offset,
        )  # fmt: skip
        drains.declare_lost(known.conn, lost, kind="recreated", reason="test", dag_run_id="test", close=True)
    known.produce(values_of_log)
    known.drain_all()
    known.aggregate_all(spark)
    assert known.dispositions()["accepted"] == accepted
    assert tables(known) == before
    assert_gone(known)


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
    erased(known)
    new = [event(eventId=f"new-{n}", userId=USER, sessionId="a new one", eventTime=erasing.at(n)) for n in range(4)]
    known.produce(erasing.spread(new))
    known.drain_all()
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known, [*IDS, "a new one"])


def test_an_attempt_that_began_before_does_not_commit(known: Pipeline, spark: SparkSession) -> None:
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
    known.produce(erasing.spread(erasing.hers()[:6]))
    landed = [known.land(drain_id) for drain_id in known.plan()]
    erased(known)
    assert not back(known)
    monkeypatch.setattr(erasures, "has_grown_since", lambda *_: False)
    known.commit(landed)
    assert back(known)


def test_without_the_guard_of_batches_she_would_be_back(
    known: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.aggregate_all(spark)
    alone = event(eventId="x", userId=USER, sessionId="hers-one", eventTime=erasing.at(600))
    known.produce(erasing.spread([alone]))  # in an hour without files, which no other guard looks at
    known.drain_all()
    transformed = known.attempt(spark)
    assert transformed is not None
    erased(known)
    assert not back(known)
    with pytest.raises(StaleBase):
        known.publish(transformed)
    monkeypatch.setattr(erasures, "has_grown_since", lambda *_: False)
    known.publish(transformed)
    assert back(known)


def test_attempts_that_committed_before_may_say_so_again(known: Pipeline, spark: SparkSession) -> None:
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
    known: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Her files of an hour are compacted after they were written anew, and then she has one more session."""
    known.aggregate_all(spark)
    commit = erase._commit
    rounds: list[bool] = []

    def compacted(*arguments: Any) -> bool:
        if not rounds:
            known.produce(
                erasing.spread([event(eventId="x", userId=USER, sessionId="the last", eventTime=erasing.at(0))])
            )
            known.drain_all()
        rounds.append(commit(*arguments))
        if not rounds[-1]:
            hours = known.conn.execute("SELECT DISTINCT hour FROM ledger.event_files WHERE live").fetchall()
            for (hour,) in hours:
                compaction.compact_hour(known.conn, known.settings, hour, RUN)
        return rounds[-1]

    monkeypatch.setattr(erase, "_commit", compacted)
    erased(known)
    assert rounds == [False, True]
    known.aggregate_all(spark)
    aging.sweep_after_grace(known)
    aging.assert_files_are_as_named(known)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known, [*IDS, "the last"])


def test_what_is_published_after_excerpts_were_read_is_read_too(
    known: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.aggregate_all(spark)
    faulty = json.dumps(event(userId="u1", sessionId="s1", eventType="JUMP")).encode()
    known.produce([(0, value) for value in [faulty, *erasing.rejected()]])
    known.drain_all()
    commit, replace = erase._commit, erasures.replace_excerpts
    rounds: list[bool] = []
    sent: list[str] = []

    def after_a_batch(*arguments: Any) -> bool:
        known.aggregate_all(spark)
        rounds.append(commit(*arguments))
        return rounds[-1]

    def noted(conn: Any, excerpts: Any) -> int:
        if not rounds:
            sent.extend(excerpts.values())
        return replace(conn, excerpts)

    monkeypatch.setattr(erase, "_commit", after_a_batch)
    monkeypatch.setattr(erasures, "replace_excerpts", noted)
    erased(known)
    assert rounds == [True]
    assert len(sent) == 12
    assert all("erased-" in text for text in sent)
    assert known.one("SELECT count(*) FROM ledger.rejections WHERE excerpt LIKE '%%u1%%'") == 1
    monkeypatch.setattr(erase, "_rewrite_rejected", None)
    assert erasing.left_in_database(known) == []


def test_a_user_of_a_session_that_has_a_token_already(known: Pipeline, spark: SparkSession) -> None:
    alone = [
        event(eventId=f"a{n}", userId="before-login", sessionId="shared-session", eventTime=erasing.at(400))
        for n in range(2)
    ]
    known.produce(erasing.spread(alone))
    known.drain_all()
    known.aggregate_all(spark)
    erased(known)
    assert known.one("SELECT count(*) FROM analytics.session_hours WHERE user_id = 'before-login'") > 0
    would = erased(known, "before-login", dry_run=True)
    assert would["session_hours"] > 0
    assert erased(known, "before-login") == would
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    assert_gone(known, [*IDS, "before-login"])


def test_raw_files_are_not_retired_while_they_are_swapped(known: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    known.conn.execute("UPDATE ledger.batches SET published_at = now() - interval '60 days'")
    settle = erasures.settle_rewrite

    def retire() -> None:
        with known.connect() as own:
            retirement.retire_raw_files(own, 30)

    retiring = threading.Thread(target=retire)

    def beside(*arguments: Any) -> None:
        retiring.start()
        retiring.join(2)
        settle(*arguments)

    monkeypatch.setattr(erasures, "settle_rewrite", beside)
    erased(known)
    retiring.join()
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


def test_attempts_at_work_when_it_is_repeated_keep_their_files(known: Pipeline, spark: SparkSession) -> None:
    erased(known)
    known.aggregate_all(spark)
    known.produce(erasing.spread(erasing.hers()[:6]))
    landed = [known.land(drain_id) for drain_id in known.plan()]
    erased(known)
    erasing.remove(known)
    known.commit(landed)
    transformed = known.attempt(spark)
    assert transformed is not None
    erased(known)
    erasing.remove(known)
    known.publish(transformed)
    known.aggregate_all(spark)
    known.assert_equals_oracle(mapped_log(known))
    named = [file.path for file in erasures.files(known.conn)]
    assert [path for path in named if not Path(path.removeprefix("file://")).exists()] == []


def test_published_days(pipeline: Pipeline, spark: SparkSession) -> None:
    erasing.use_key(pipeline)
    records = published.two_days()
    published.take(pipeline, spark, records)
    published.publish(pipeline)
    versions = published.table(pipeline).version()
    assert erased(pipeline, "nobody", dry_run=True)["published_days"] == 0
    counts = erased(pipeline, "secret-user-1", dry_run=True)
    assert counts["published_days"] == counts["events"] > 0
    assert erased(pipeline, "secret-user-1") == counts
    assert published.table(pipeline).version() == versions + 2
    published.assert_table_is(pipeline, mapped_log(pipeline, records), published.FIRST, published.SECOND)
    assert {seen for _, seen in published.noted(pipeline).values()} == {1}
    assert published.publish(pipeline).items == 0
    assert erased(pipeline, "later")["published_days"] == 0  # of a day that is not closed
    assert published.table(pipeline).version() == versions + 2
    published.table(pipeline).vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert_gone(pipeline, ["secret-user-1"])


def test_a_day_that_was_read_before_is_looked_at_after_it_was_published(
    pipeline: Pipeline, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasing.use_key(pipeline)
    records = published.two_days()
    published.take(pipeline, spark, records)
    write, began, erasing_now = days._write, threading.Event(), threading.Event()

    def slow(conn: Any, settings: Any, day: Any) -> Any:
        content = published_days.content
        with monkeypatch.context() as patch:

            def read(*arguments: Any) -> Any:
                found = content(*arguments)
                began.set()
                erasing_now.wait(60)
                time.sleep(1)
                return found

            patch.setattr(published_days, "content", read)
            return write(conn, settings, day)

    monkeypatch.setattr(days, "_write", slow)
    replace = erase._replace_other_files

    def then(*arguments: Any) -> None:
        erasing_now.set()
        replace(*arguments)

    monkeypatch.setattr(erase, "_replace_other_files", then)

    def publish() -> None:
        with pipeline.connect() as own:
            days.publish_days(own, pipeline.settings, dry_run=False)

    publisher = threading.Thread(target=publish)
    publisher.start()
    assert began.wait(60)
    erased(pipeline, "secret-user-1")
    publisher.join()
    monkeypatch.undo()
    assert "secret-user-1" not in {row["user_id"] for row in published.rows(pipeline)}
    published.publish(pipeline)
    published.assert_table_is(pipeline, mapped_log(pipeline, records), published.FIRST, published.SECOND)
    assert {seen for _, seen in published.noted(pipeline).values()} == {1}


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


@pytest.mark.parametrize("user_id", ["", "x" * 257, "a\0b", "a\ud800", "erased-" + 32 * "0"])
def test_ids_that_no_event_has(pipeline: Pipeline, user_id: str) -> None:
    with pytest.raises(RemedyRefused, match=r"1 to 256 characters|is the token"):
        erased(pipeline, user_id)


def test_without_a_key_nobody_is_erased_and_the_list_is_not_ignored(known: Pipeline, tmp_path: Path) -> None:
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
