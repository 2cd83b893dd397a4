"""Retention of windows and sessions: whole partitions go, nothing that an equation needs does."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from clickstream.ledger import partitions
from clickstream.ledger.publishing import lock_analytics
from clickstream.maintenance import results
from tests.kit.aging import HOURLY, partition
from tests.kit.events import event_record
from tests.kit.pipeline import Pipeline
from tests.kit.services import migrate
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyspark.sql import SparkSession

    from clickstream.maintenance.outcome import Outcome

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TABLES = (*partitions.WINDOWS, *HOURLY, "sessions")

EVENTS = """
CREATE TEMP TABLE widths AS SELECT unnest('{5,60}'::smallint[]) AS minutes;
CREATE TEMP TABLE w AS
SELECT e.*, minutes, date_bin(minutes * interval '1 minute', at, 'epoch') AS start FROM e, widths;
INSERT INTO ledger.partitions (topic, topic_id, partition, first_offset, next_offset, log_start_offset, log_end_offset,
    observed_at) SELECT 't', 't', 0, 0, count(*), 0, count(*), now() FROM e;
INSERT INTO ledger.batches (planned, landed, absent, lost, accepted, duplicate, late, rejected, state, settings,
    published_at, dag_run_id) SELECT n, n, 0, 0, n, 0, 0, 0, 'published', '{}', now(), 't' FROM (
    SELECT count(*) AS n FROM e) n;
INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost, historic, path,
    bytes, batch_id) SELECT 't', 0, 0, planned, planned, 0, 0, 0, 'segment', 1, batch_id FROM ledger.batches;
INSERT INTO ledger.event_files (path, hour, records, bytes, batch_id)
SELECT start::text, start, count(*), 1, max(batch_id) FROM w, ledger.batches WHERE minutes = 60 GROUP BY start;
INSERT INTO analytics.traffic_by_window (window_start, window_minutes, events, page_views, add_to_carts, purchases,
    logins, logouts, users, sessions, batch_id, published_at)
SELECT start, minutes, count(*), count(*) - 1, 0, 1, 0, 0, count(DISTINCT session_id), count(DISTINCT session_id), 1,
       start + interval '1 hour' FROM w GROUP BY 1, 2;
INSERT INTO analytics.pages_by_window
SELECT start, minutes, '/', count(*) - 1, 1, 1 FROM w GROUP BY 1, 2 HAVING count(*) > 1;
INSERT INTO analytics.audience_by_window
SELECT start, minutes, d, 'v', count(*), 1, 1, 0 FROM w, unnest('{device,region,referrer}'::text[]) d GROUP BY 1, 2, 3;
INSERT INTO analytics.funnel_by_window SELECT DISTINCT start, minutes, 1, 0, 1 FROM w;
INSERT INTO analytics.revenue_by_window SELECT DISTINCT start, minutes, 'EUR', 1, 1 FROM w;
INSERT INTO analytics.session_hours
SELECT session_id, start, min(at), max(at), count(*), count(*), 0, 0, 'u-' || session_id, 'd', 'r', '/', '/'
FROM w WHERE minutes = 60 GROUP BY 1, 2;
INSERT INTO analytics.users_by_hour SELECT hour, user_id FROM analytics.session_hours;
INSERT INTO analytics.sessions
SELECT session_id, min(started_at), max(ended_at), sum(events), sum(page_views), 0, 0, min(user_id), 'd', 'r', '/', '/',
       false FROM analytics.session_hours GROUP BY 1;
INSERT INTO analytics.sessions_by_window
SELECT date_bin(minutes * interval '1 minute', started_at, 'epoch'), minutes, d, '', count(*), 0, 0, 0, 1, 1
FROM analytics.sessions, widths, unnest('{all,device}'::text[]) d GROUP BY 1, 2, 3;
DROP TABLE e, w, widths;
"""


def month(ago: int) -> datetime:
    """Start of the UTC month so many months ago."""
    now = datetime.now(UTC)
    years, months = divmod(now.year * 12 + now.month - 1 - ago, 12)
    return datetime(years, months + 1, 1, tzinfo=UTC)


def january(ago: int) -> datetime:
    return datetime(datetime.now(UTC).year - ago, 1, 1, tzinfo=UTC)


OLD, NEXT = month(9), month(8)


def fill(conn: psycopg.Connection[Any], events: Iterable[tuple[datetime, str]]) -> None:
    """Publish these (time, session) as if by one batch, each window within its hour."""
    conn.execute("CREATE TEMP TABLE e (at timestamptz, session_id text)")
    with conn.cursor().copy("COPY e FROM STDIN") as copy:
        for row in events:
            copy.write_row(row)
    conn.execute(EVENTS.encode())
    assert broken(conn) == []


def broken(conn: psycopg.Connection[Any]) -> list[Any]:
    return conn.execute(
        "SELECT check_name, unaccounted FROM ledger.conservation WHERE unaccounted <> 0 UNION ALL"
        " SELECT check_name, expected - found FROM ledger.hour_checks WHERE expected <> found"
    ).fetchall()


def retire(conn: psycopg.Connection[Any], until: datetime) -> None:
    """Take the events of the hours before."""
    conn.execute(
        "WITH gone AS (UPDATE ledger.event_files SET live = false WHERE hour < %s AND live RETURNING hour, records)"
        " INSERT INTO ledger.retired_hours (hour, events) SELECT hour, sum(records) FROM gone GROUP BY hour",
        [until],
    )
    assert broken(conn) == []


def places(conn: psycopg.Connection[Any], table: str) -> dict[str, int]:
    """The number of rows by the partition they are in."""
    return dict(
        conn.execute(f"SELECT substr(tableoid::regclass::text, 11), count(*) FROM analytics.{table} GROUP BY 1")
    )


def everything(conn: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    return {name: conn.execute(f"SELECT tableoid, * FROM analytics.{name} t ORDER BY t").fetchall() for name in TABLES}


def named(start: datetime) -> str:
    return start.strftime("%Y_%m")


def remove(pipeline: Pipeline, *, dry_run: bool = False, conn: psycopg.Connection[Any] | None = None) -> list[Outcome]:
    found = [
        step(conn or pipeline.conn, pipeline.settings, dry_run=dry_run)
        for step in (results.remove_windows, results.remove_sessions)
    ]
    assert broken(conn or pipeline.conn) == []
    return found


def keep(pipeline: Pipeline, **days: int) -> None:
    pipeline.use(retention=pipeline.settings.retention.model_copy(update=days))


def test_rows_move_into_partitions_and_back(pipeline: Pipeline) -> None:
    recent, ancient = month(1) + DAY, january(6)
    fill(pipeline.conn, [(recent, "a"), (NEXT, "b"), (ancient, "c"), (ancient + HOUR, "c")])
    pipeline.conn.execute(
        "UPDATE analytics.traffic_by_window SET window_minutes = 15 WHERE window_minutes = 5 AND window_start = %s",
        [NEXT],
    )

    def rows() -> dict[str, list[Any]]:
        return {name: sorted(pipeline.conn.execute(f"SELECT * FROM analytics.{name}").fetchall()) for name in TABLES}

    before = rows()
    for steps in (("down", "0006"), ("up",)):
        pipeline.conn.close()
        migrate(pipeline.stack, pipeline.database, *steps)
        pipeline.conn = pipeline.connect()
        assert rows() == before
    assert places(pipeline.conn, "users_by_hour") == {
        f"users_by_hour_{named(recent)}": 1,
        f"users_by_hour_{named(NEXT)}": 1,
        "users_by_hour_default": 2,
    }
    assert places(pipeline.conn, "traffic_by_window") == Counter(
        [
            f"traffic_by_window_5_{named(recent)}", f"traffic_by_window_60_{recent.year}",
            "traffic_by_window_default", f"traffic_by_window_60_{NEXT.year}",
            *["traffic_by_window_5_default", "traffic_by_window_60_default"] * 2,
        ]
    )  # fmt: skip
    options = "SELECT reloptions FROM pg_class WHERE oid = %s::regclass"
    assert pipeline.one(options, f"analytics.users_by_hour_{named(recent)}")


def test_partitions_are_made_ahead_and_take_their_rows_from_the_default(pipeline: Pipeline) -> None:
    ahead = month(-2)
    at = ahead + 40 * DAY  # beyond what the migration has made
    fill(pipeline.conn, [(at, "s"), (OLD, "t")])
    name = f"traffic_by_window_5_{named(at)}"
    assert "traffic_by_window_5_default" in places(pipeline.conn, "traffic_by_window")
    assert name in partitions.add(pipeline.conn, at)
    assert broken(pipeline.conn) == []
    starts = "SELECT DISTINCT window_start FROM analytics.{}_5_default"
    for table in partitions.WINDOWS:
        assert set(pipeline.conn.execute(starts.format(table))) <= {(OLD,)}
    assert places(pipeline.conn, "traffic_by_window")[name] == 1
    counted = "SELECT count(*) FROM pg_stats WHERE tablename = 'funnel_by_window' AND inherited"
    assert pipeline.one(counted) == 0
    assert results.add_partitions(pipeline.conn, pipeline.settings, dry_run=False).items == 0
    assert pipeline.one(counted) > 0


def test_the_writer_drops_partitions_that_have_ended_and_nothing_else(pipeline: Pipeline) -> None:
    partition(pipeline, OLD)
    ended = f"pages_by_window_5_{named(OLD)}"
    drop = "SELECT analytics.drop_partition(%s, %s)"
    for name, by in (
        (ended, NEXT - MINUTE),
        (ended, None),
        (f"pages_by_window_5_{named(month(0))}", "infinity"),
        ("pages_by_window_5_default", "infinity"),
        ("pages_by_window_default", "infinity"),
        ("pages_by_window_5", "infinity"),
        ("pages_by_window", "infinity"),
        ("sessions", "infinity"),
        ("nothing", "infinity"),
        (None, "infinity"),
    ):
        with pytest.raises(psycopg.errors.UndefinedTable):
            pipeline.conn.execute(drop, [name, by])
    for statement in (
        f"DROP TABLE analytics.{ended}",
        f"ALTER TABLE analytics.pages_by_window_5 DETACH PARTITION analytics.{ended}",
        f"TRUNCATE analytics.{ended}",
        "CREATE TABLE analytics.another ()",
        "SELECT analytics.add_partition('pages_by_window_5', now(), now())",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pipeline.conn.execute(statement.encode())
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        pipeline.conn.execute("SELECT analytics.add_partitions('infinity')")
    pipeline.conn.execute(drop, [ended, NEXT])
    assert pipeline.one("SELECT to_regclass(%s)", f"analytics.{ended}") is None
    password = (pipeline.stack.secrets / "grafana_reader").read_text(encoding="utf-8")
    with (
        psycopg.connect(pipeline.dsn, user="grafana_reader", password=password) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute(drop, [f"funnel_by_window_5_{named(OLD)}", NEXT])


def test_windows_go_by_their_width(pipeline: Pipeline) -> None:
    year = january(4)
    partition(pipeline, OLD, NEXT, year, years=[year])
    fill(pipeline.conn, [(year + DAY, "a"), (year + DAY + HOUR, "a"), (OLD, "b"), (NEXT, "c"), (month(1), "d")])
    retire(pipeline.conn, month(1))
    before = everything(pipeline.conn)
    dry, _ = remove(pipeline, dry_run=True)
    assert everything(pipeline.conn) == before
    done, _ = remove(pipeline)
    assert (dry.items, dry.bytes, dry.lines) == (done.items, done.bytes, done.lines)
    assert done.items == 6 * 4
    assert done.bytes > 0
    assert [line for line in done.lines if "traffic" in line and "bytes" in line and " 2 rows" in line]
    starts = dict(
        pipeline.conn.execute(
            "SELECT window_minutes, array_agg(window_start ORDER BY 1) FROM analytics.traffic_by_window GROUP BY 1"
        ).fetchall()
    )
    assert starts == {5: [month(1)], 60: [OLD, NEXT, month(1)]}
    for table in partitions.WINDOWS:
        assert not pipeline.one(f"SELECT count(*) FROM analytics.{table} WHERE window_start < %s", OLD)
    assert remove(pipeline)[0].items == 0


def test_a_month_stays_until_its_last_publication_is_old_enough(pipeline: Pipeline) -> None:
    partition(pipeline, OLD, NEXT)
    fill(pipeline.conn, [(OLD, "a"), (OLD + DAY, "b"), (NEXT, "c")])
    retire(pipeline.conn, month(1))
    pipeline.conn.execute(
        "UPDATE analytics.traffic_by_window SET published_at = now() WHERE window_start = %s", [OLD + DAY]
    )
    remove(pipeline)
    assert {start for (start,) in pipeline.conn.execute("SELECT window_start FROM analytics.funnel_by_window_5")} == {
        OLD,
        OLD + DAY,
    }


def test_windows_and_sessions_of_hours_with_events_stay(pipeline: Pipeline) -> None:
    partition(pipeline, OLD, NEXT)
    fill(pipeline.conn, [(OLD, "a"), (OLD + DAY, "b"), (OLD - DAY, "c"), (OLD - 2 * DAY, "d"), (NEXT, "e")])
    retire(pipeline.conn, OLD - DAY)
    before = everything(pipeline.conn)
    windows, sessions = remove(pipeline)
    assert (windows.items, sessions.items) == (1, 1)  # of the one retired hour, in the default partitions
    after = everything(pipeline.conn)
    assert {name: len(before[name]) - len(after[name]) for name in TABLES} == {
        **dict.fromkeys(TABLES, 1), "pages_by_window": 0, "audience_by_window": 3, "sessions_by_window": 2,
    }  # fmt: skip


def test_windows_of_default_partitions_go_one_by_one(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "WINDOWS_AT_ONCE", 2)
    fill(pipeline.conn, [(OLD + n * HOUR, "a") for n in range(7)])
    retire(pipeline.conn, OLD + 6 * HOUR)
    pipeline.conn.execute("UPDATE analytics.traffic_by_window SET published_at = now() WHERE window_start = %s", [OLD])
    before = everything(pipeline.conn)
    dry, _ = remove(pipeline, dry_run=True)
    assert everything(pipeline.conn) == before
    done, _ = remove(pipeline)
    assert (dry.items, dry.lines) == (done.items, done.lines) == (5, ["5 windows of 5 minutes in default partitions"])
    for table in ("traffic_by_window", "funnel_by_window", "revenue_by_window"):
        assert pipeline.one(f"SELECT count(*) FROM analytics.{table} WHERE window_minutes = 5") == 2, table
        assert pipeline.one(f"SELECT count(*) FROM analytics.{table} WHERE window_minutes = 60") == 7, table


def test_a_session_keeps_all_of_its_hours_or_none(pipeline: Pipeline) -> None:
    partition(pipeline, OLD, NEXT)
    later = month(7)
    fill(
        pipeline.conn,
        [
            (OLD + DAY, "within"), (OLD + DAY + HOUR, "within"),
            (OLD - MINUTE, "from before"), (OLD + HOUR, "from before"),
            (NEXT - MINUTE, "into the next"), (NEXT + HOUR, "into the next"),
            (NEXT - MINUTE, "into today"), (NEXT + HOUR, "into today"), (later, "into today"), (month(0), "into today"),
            (NEXT - MINUTE, "with events"), (NEXT + 5 * HOUR, "with events"),
            (NEXT + DAY, "next"),
            (OLD - DAY, "before"),
        ],
    )  # fmt: skip
    retire(pipeline.conn, NEXT + 2 * HOUR)
    before = everything(pipeline.conn)
    _, dry = remove(pipeline, dry_run=True)
    assert everything(pipeline.conn) == before
    _, done = remove(pipeline)
    assert dry.items == done.items == 4
    assert any("3 sessions go, 2 rows of others are kept" in line for line in done.lines)
    sessions = {name for (name,) in pipeline.conn.execute("SELECT session_id FROM analytics.sessions")}
    assert sessions == {"into today", "next", "with events"}
    hours = sorted(pipeline.conn.execute("SELECT session_id, hour FROM analytics.session_hours"))
    assert hours == [
        *(("into today", at) for at in (NEXT - HOUR, NEXT + HOUR, later, month(0))), ("next", NEXT + DAY),
        ("with events", NEXT - HOUR), ("with events", NEXT + 5 * HOUR),
    ]  # fmt: skip
    users = sorted(pipeline.conn.execute("SELECT user_id, hour FROM analytics.users_by_hour"))
    assert users == [("u-into the next", NEXT + HOUR), *(("u-into today", at) for at in (NEXT + HOUR, later, month(0))),
                     ("u-next", NEXT + DAY), ("u-with events", NEXT + 5 * HOUR)]  # fmt: skip
    retire(pipeline.conn, month(0) + DAY)
    remove(pipeline)
    assert {name for (name,) in pipeline.conn.execute("SELECT session_id FROM analytics.sessions")} == {"into today"}
    assert pipeline.one("SELECT count(*) FROM analytics.session_hours") == 4


def test_sessions_of_the_default_partition_go_in_chunks(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROWS_AT_ONCE", 2)
    fill(pipeline.conn, [(OLD + n * MINUTE, f"s{n}") for n in range(7)])
    retire(pipeline.conn, NEXT)
    keep(pipeline, sessions_days=30_000)
    assert remove(pipeline)[1].items == 0
    keep(pipeline, sessions_days=120)
    dry, done = remove(pipeline, dry_run=True)[1], remove(pipeline)[1]
    assert (dry.items, dry.lines) == (done.items, done.lines) == (
        7, ["7 sessions in the default partition", "7 users by hour in the default partition"],
    )  # fmt: skip
    assert [places(pipeline.conn, table) for table in ("sessions", *HOURLY)] == [{}, {}, {}]


def test_two_at_once_remove_everything_once(pipeline: Pipeline) -> None:
    partition(pipeline, OLD, NEXT)
    fill(pipeline.conn, [(start + n * HOUR, f"s{n}") for start in (OLD, NEXT) for n in range(20)])
    retire(pipeline.conn, month(1))
    with ThreadPoolExecutor() as pool, pipeline.connect() as one, pipeline.connect() as other:
        found = list(pool.map(lambda conn: remove(pipeline, conn=conn), (one, other)))
    assert sum(windows.items for windows, _ in found) == 12
    assert sum(sessions.items for _, sessions in found) == 20
    assert pipeline.one("SELECT count(*) FROM analytics.sessions") == 0


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"


@pytest.mark.parametrize("step", [results.remove_windows, results.remove_sessions])
@pytest.mark.parametrize("in_partition", [True, False])
def test_nothing_is_removed_while_a_batch_is_published(
    pipeline: Pipeline, step: Callable[..., Outcome], *, in_partition: bool
) -> None:
    if in_partition:
        partition(pipeline, OLD)
    fill(pipeline.conn, [(OLD, "a")])
    retire(pipeline.conn, NEXT)
    before = everything(pipeline.conn)
    with ThreadPoolExecutor() as pool, pipeline.connect() as publisher, pipeline.connect() as other:
        with publisher.transaction():
            lock_analytics(publisher)
            removing = pool.submit(step, other, pipeline.settings, dry_run=False)
            assert eventually(lambda: removing.done() or pipeline.one(WAITING) == 1)
            assert not removing.done()
            assert everything(pipeline.conn) == before
        assert removing.result(timeout=30).items > 0
    assert broken(pipeline.conn) == []


@contextmanager
def impatience(pipeline: Pipeline) -> Iterator[None]:
    """In the block, functions that wait 5 seconds for a lock wait a tenth of one."""
    with pipeline.superuser() as conn:
        functions = conn.execute(
            "SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace = 'analytics'::regnamespace AND proconfig @> '{lock_timeout=5s}'"
        ).fetchall()
        try:
            for (function,) in functions:
                conn.execute(f"ALTER FUNCTION {function} SET lock_timeout = '100ms'".encode())
            yield
        finally:
            for (function,) in functions:
                conn.execute(f"ALTER FUNCTION {function} SET lock_timeout = '5s'".encode())


def test_a_partition_that_is_being_read_stays_until_the_next_run(pipeline: Pipeline) -> None:
    partition(pipeline, OLD)
    fill(pipeline.conn, [(OLD, "a")])
    retire(pipeline.conn, NEXT)
    before = everything(pipeline.conn)
    with pipeline.connect() as reader, reader.transaction():
        reader.execute("SELECT * FROM analytics.revenue_by_window")
        with impatience(pipeline):
            windows = results.remove_windows(pipeline.conn, pipeline.settings, dry_run=False)
    assert windows.items == 0
    assert windows.lines == [f"analytics.traffic_by_window_5_{named(OLD)} is being read and stays until the next run"]
    assert everything(pipeline.conn) == before
    assert remove(pipeline)[0].items == 6


def test_partitions_are_added_another_day_while_a_default_one_is_being_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "AHEAD", timedelta(days=200))
    with pipeline.connect() as reader, reader.transaction(), impatience(pipeline):
        reader.execute("SELECT * FROM analytics.revenue_by_window")
        outcome = results.add_partitions(pipeline.conn, pipeline.settings, dry_run=False)
    assert outcome.items == 0
    assert outcome.lines == ["none: a default partition is being read; the next run adds them"]
    assert results.add_partitions(pipeline.conn, pipeline.settings, dry_run=False).items > 0


def test_statistics_are_taken_another_day_while_a_partition_is_being_vacuumed(pipeline: Pipeline) -> None:
    with pipeline.superuser() as other, other.transaction(), impatience(pipeline):
        other.execute("LOCK analytics.traffic_by_window_5_default IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
        outcome = results.add_partitions(pipeline.conn, pipeline.settings, dry_run=False)
    assert outcome.lines == ["no statistics: a partition is being vacuumed or analyzed; the next run takes them"]
    assert results.add_partitions(pipeline.conn, pipeline.settings, dry_run=False).lines == []


def test_a_session_that_goes_on_brings_no_removed_window_back(pipeline: Pipeline, spark: SparkSession) -> None:
    start = OLD + 12 * HOUR
    keep(pipeline, sessions_days=30_000)
    for number, (at, page) in enumerate([(start, "/a"), (start + HOUR, "/b")]):
        pipeline.land_records([event_record(number, at, landed_at=start + 3 * HOUR, sessionId="s", page=page)])
        pipeline.aggregate_all(spark)
        if number == 0:
            pipeline.conn.execute("UPDATE analytics.traffic_by_window SET published_at = window_start")
            retire(pipeline.conn, start + HOUR)
            assert remove(pipeline)[0].items == 1
    assert broken(pipeline.conn) == []
    windows = pipeline.conn.execute(
        "SELECT window_start, window_minutes, dimension, value, sessions FROM analytics.sessions_by_window"
        " WHERE dimension IN ('all', 'exit_page') ORDER BY 1, 2, 3"
    ).fetchall()
    assert windows == [(start, 60, "all", "", 1), (start, 60, "exit_page", "/b", 1)]
    assert pipeline.one("SELECT exit_page FROM analytics.sessions") == "/b"
