"""What the page Pipeline health reads, its verdicts; the page and a scrape cost the same however long history is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from pyspark.sql import SparkSession

from clickstream.ledger import metrics, overview
from clickstream.ledger.overview import Overview
from clickstream.web.verdicts import verdicts
from infra.local.stack import Stack
from tests.kit.events import values
from tests.kit.pipeline import Pipeline

QUESTIONS = ("Fresh", "Complete", "Correct", "Running")


def wrong(seen: Overview) -> dict[str, str]:
    """Status of each verdict that isn't ok."""
    return {one.question: one.status for one in verdicts(seen) if one.status != "ok"}


def remedy(seen: Overview) -> str:
    """What the first verdict that isn't ok says to do."""
    return next(one.remedy for one in verdicts(seen) if one.status != "ok")


def test_an_empty_ledger_is_unknown_in_every_respect(shared: Pipeline) -> None:
    seen = overview.read(shared.conn)
    assert wrong(seen) == dict.fromkeys(QUESTIONS, "unknown")
    assert "unpause drain_clickstream" in remedy(seen)


@pytest.fixture(scope="module")
def observed(services: Stack, template: str, spark: SparkSession) -> Iterator[tuple[Pipeline, Overview]]:
    """A pipeline that has just published all there was, is audited and checked; and what it says then."""
    pipeline = Pipeline.new(services, template)
    pipeline.create_topic()
    pipeline.produce(values(20))
    pipeline.drain_all()
    pipeline.aggregate_all(spark)
    pipeline.conn.execute("INSERT INTO ledger.audits VALUES (now(), 'a check', 1, 0)")
    pipeline.conn.execute("INSERT INTO ledger.health_checks VALUES ('kafka', now(), 'ok', 0.1, 'fine', 'run')")
    yield pipeline, overview.read(pipeline.conn)
    pipeline.drop()


@pytest.fixture
def healthy(observed: tuple[Pipeline, Overview]) -> Overview:
    return observed[1]


def test_each_verdict_turns_with_what_it_is_about(healthy: Overview) -> None:
    assert wrong(healthy) == {}

    def partition(**changes: Any) -> list[dict[str, Any]]:
        return [healthy.partitions[0] | changes, *healthy.partitions[1:]]

    def newest(**changes: Any) -> list[dict[str, Any]]:
        return [healthy.batches[0] | changes]

    def check(**changes: Any) -> list[dict[str, Any]]:
        return [healthy.checks[0] | changes]

    name = "{topic}/{partition}".format(**healthy.partitions[0])
    old = replace(healthy, watermark=healthy.as_of - timedelta(minutes=5, seconds=1))
    assert wrong(old) == {"Fresh": "bad"}
    assert "look at aggregate_clickstream's newest run" in remedy(old)
    behind = replace(old, partitions=partition(lag_seconds=301.0))
    assert remedy(behind).startswith(f"Not landed: {name}. Look at drain_clickstream's newest run")
    again = replace(old, batches=newest(state="open", attempts=3))
    assert "is at attempt 3: read its Spark log" in remedy(again)
    stopped = replace(old, partitions=partition(stopped="expired"))
    assert wrong(stopped) == {"Fresh": "bad", "Complete": "bad"}
    assert remedy(stopped).startswith(f"Stopped: {name}.")
    assert wrong(replace(healthy, partitions=partition(headroom_seconds=7_199.0))) == {"Complete": "bad"}
    assert wrong(replace(healthy, partitions=partition(headroom_seconds=None, kept_for_ever=True))) == {}
    late = {"windows": 2, "oldest": healthy.as_of}
    assert wrong(replace(healthy, overdue=late)) == {"Complete": "attention"}
    loss = {"topic": "t", "partition": 0, "first_offset": 0, "end_offset": 1_200}
    lost = replace(healthy, losses=[loss])
    assert wrong(lost) == {"Complete": "attention"}
    assert any("1,200 offsets of t/0" in one.finding for one in verdicts(lost))
    for column in ("offsets_missing", "records_missing"):
        assert wrong(replace(healthy, batches=newest(**{column: -3}))) == {"Correct": "bad"}
    audit = healthy.audit[0]
    assert wrong(replace(healthy, audit=[audit | {"unaccounted": 2}])) == {"Correct": "bad"}
    long_ago = healthy.as_of - timedelta(minutes=16)
    assert wrong(replace(healthy, audit=[audit | {"audited_at": long_ago}])) == {"Correct": "unknown"}
    assert wrong(replace(healthy, checks=check(status="down"))) == {"Running": "bad"}
    assert wrong(replace(healthy, checks=check(status="degraded"))) == {"Running": "attention"}
    assert wrong(replace(healthy, checks=check(checked_at=long_ago))) == {"Running": "unknown"}
    for minutes, verdict in ((14, {"Running": "bad"}), (16, {"Running": "unknown"}), (7 * 60, {})):
        gone = {"component": "gone", "status": "down", "checked_at": healthy.as_of - timedelta(minutes=minutes)}
        assert wrong(replace(healthy, checks=[*healthy.checks, *check(**gone)])) == verdict


def test_overdue_windows_recent_losses_and_endless_retention_are_found(observed: tuple[Pipeline, Overview]) -> None:
    pipeline, healthy = observed
    assert (healthy.overdue["windows"], healthy.losses) == (0, [])
    with pipeline.superuser() as conn:
        conn.execute(
            "UPDATE analytics.traffic_by_window SET status = 'provisional',"
            " window_start = window_start - interval '2 hours'"
        )
        conn.execute("UPDATE ledger.partitions SET retention_seconds = 'Infinity'")
        for hours in (23, 25):
            conn.execute(
                "INSERT INTO ledger.losses (topic_id, partition, first_offset, end_offset, kind, reason, dag_run_id,"
                " declared_at) SELECT topic_id, partition, 0, %s, 'expired', 'test', 'run', now() - %s * interval '1 h'"
                " FROM ledger.partitions WHERE partition = 0",
                [hours, hours],
            )
        windows = conn.execute("SELECT count(*) FROM analytics.traffic_by_window").fetchone()
    seen = overview.read(pipeline.conn)
    assert (seen.overdue["windows"],) == windows
    assert [loss["end_offset"] for loss in seen.losses] == [23]
    assert {(row["headroom_seconds"], row["kept_for_ever"]) for row in seen.partitions} == {(None, True)}


# A batch a minute, newest now; without triggers, which count each batch in the same rows and so take ever longer.
HISTORY = """
SET session_replication_role = replica;
CREATE TEMP TABLE made AS
    SELECT n, now() - (%(newest)s - n) * interval '1 min' AS t FROM generate_series(1, %(newest)s) n;
INSERT INTO ledger.drains (dag_run_id) SELECT 'run ' || n FROM made ORDER BY n;
INSERT INTO ledger.drain_ranges SELECT n, 'id', 0, n * 10, n * 10 + 10 FROM made;
INSERT INTO ledger.batches (state, attempt, planned, landed, absent, lost, accepted, duplicate, late, rejected,
    id_conflicts, settings, created_at, published_at, dag_run_id)
SELECT 'published', 1, 10, 10, 0, 0, 8, 1, 0, 1, 0, '{}', t, t, 'run ' || n FROM made ORDER BY n;
INSERT INTO ledger.attempts (batch_id, attempt, state, dag_run_id) SELECT n, 1, 'committed', 'run ' || n FROM made;
INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost, historic,
    first_record_at, last_record_at, path, bytes, batch_id, previous_end)
SELECT 'id', 0, n * 10, n * 10 + 10, 10, 0, 0, 0, t, t, 'path ' || n, 1, n, nullif(n * 10, 10) FROM made ORDER BY n;
INSERT INTO ledger.rejected_counts SELECT n, 'not_json', 1 FROM made;
INSERT INTO ledger.rejections SELECT 'id', 0, n * 10, n, t, 'not_json', NULL, 'x' FROM made;
INSERT INTO analytics.traffic_by_window (window_start, window_minutes, events, page_views, add_to_carts, purchases,
    logins, logouts, users, sessions, status, batch_id)
SELECT date_bin('5 min', now(), 'epoch') - (%(newest)s - n) * interval '5 min', minutes, 1, 1, 0, 0, 0, 0, 1, 1,
    'complete', n FROM made, unnest(ARRAY[5, 60]) minutes;
INSERT INTO ledger.losses (topic_id, partition, first_offset, end_offset, kind, reason, dag_run_id)
SELECT 'id', 0, n, n + 1, 'expired', 'test', 'run' FROM made;
DROP TABLE made
"""
QUERIES = {  # of the page, and of a scrape
    f"{module.__name__}.{name}": query
    for module in (overview, metrics)
    for name, query in vars(module).items()
    if name.isupper() and isinstance(query, str) and name != "BATCH"
}


def blocks(conn: psycopg.Connection[Any], newest: int) -> dict[str, int]:
    """Blocks that each query touches, cached or not."""
    found = {}
    for name, query in QUERIES.items():
        asked = {"batch_id": newest, "drain_run": f"run {newest}"}
        for (plan,) in conn.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", asked):
            found[name] = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    return found


def test_cost_and_rows_do_not_grow_with_history(pipeline: Pipeline) -> None:
    few, many = 60_000, 120_000  # batches; in a smaller ledger, reading all of it is the cheapest plan
    touched = []
    with pipeline.superuser() as conn, psycopg.ClientCursor(conn) as cursor:
        cursor.execute("INSERT INTO ledger.partitions VALUES ('t', 'id', 0, 10, 10, 0, 0, true, now(), NULL)")
        for batches in (few, many):
            cursor.execute(
                "TRUNCATE ledger.drains, ledger.batches, ledger.losses, analytics.traffic_by_window"
                " RESTART IDENTITY CASCADE"
            )
            cursor.execute(HISTORY, {"newest": batches})
            cursor.execute("VACUUM ANALYZE")
            touched.append(blocks(conn, batches))
    before, after = touched
    assert len(QUERIES) == 15 + 8
    grown = {name: (before[name], after[name]) for name in QUERIES if after[name] > 1.5 * before[name] + 100}
    assert grown == {}, f"blocks touched at {few} and at {many} batches"
    seen = overview.read(pipeline.conn, batch_id=many, drain_run=f"run {many}")
    assert len(seen.batches) == 20
    assert len(seen.windows) <= 100
    assert len(seen.losses) == 20
    assert len(seen.rejects[0].pop("examples")) == 1
    assert seen.rejects[0] == {"reason": "not_json", "day": 1440, "ever": 0, "landed_day": 14_400}
    assert [row["first_offset"] for row in seen.drains] == [many * 10]
    assert seen.batch
    assert [row["path"] for row in seen.batch["segments"]] == [f"path {many}"]
