"""Counters in Airflow's database: each try and run counted once, whatever ends it, and never uncounted."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import pendulum
import psycopg
import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from clickstream.airflow_metadata import figures
from clickstream.airflow_metadata.migrate import cli as counters
from clickstream.errors import ClickstreamError
from clickstream.ledger.migrate import command_line
from clickstream.metrics import airflow_families
from infra.local import airflow, credentials
from infra.local.java import find_java
from infra.local.stack import Stack
from infra.local.supervision import base_environment
from tests.kit import migrations
from tests.kit.services import superuser

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def database(services: Stack) -> Iterator[str]:
    """Airflow's schema in a database of its own, made by Airflow's migrations and then ours."""
    name = f"airflow_{uuid4().hex[:12]}"
    airflow.prepare(services)
    with superuser(services) as conn:
        conn.execute(f"CREATE DATABASE {name} OWNER {credentials.AIRFLOW_ROLE} TEMPLATE template0")
    environment = base_environment() | airflow.environment(services, find_java())
    del environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"]
    environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = url(services, name)
    subprocess.run([airflow.AIRFLOW, "db", "migrate"], env=environment, check=True, capture_output=True)
    migrate(services, name, "up")
    yield name
    with superuser(services) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def url(services: Stack, database: str) -> str:
    password = credentials.token(services, credentials.AIRFLOW_ROLE)
    return f"postgresql+psycopg2://{credentials.AIRFLOW_ROLE}:{password}@127.0.0.1:{services.ports.postgres}/{database}"


def migrate(services: Stack, database: str, *arguments: str, cli: click.Group = counters) -> str:
    password = credentials.token(services, credentials.AIRFLOW_ROLE)
    where = airflow.as_airflow(services) | {"PGDATABASE": database, "PGPASSWORD": password}
    return migrations.run(cli, where, *arguments)


@pytest.fixture
def conn(services: Stack, database: str) -> Iterator[Connection]:
    """As Airflow's own role; counters begin at nothing."""
    password = credentials.token(services, credentials.AIRFLOW_ROLE)
    dsn = f"postgresql://{credentials.AIRFLOW_ROLE}:{password}@127.0.0.1:{services.ports.postgres}/{database}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE dag_run CASCADE; TRUNCATE clickstream.totals, clickstream.increments")
        yield connection


@contextmanager
def session(services: Stack, database: str) -> Iterator[Session]:
    engine = create_engine(url(services, database), poolclass=NullPool)
    with Session(engine) as opened:
        yield opened


def read(services: Stack, database: str) -> figures.Figures:
    with session(services, database) as opened:
        return figures.read(opened)


def counted(services: Stack, database: str, series: str) -> dict[tuple[str, ...], int]:
    of = [one for one in read(services, database).counters if one.series == series]
    return {(one.dag_id, one.task_id, one.label) if one.task_id else (one.dag_id, one.label): one.count for one in of}


def add_run(conn: Connection, run_id: str = "run", state: str = "running") -> None:
    conn.execute(
        "INSERT INTO dag_run (dag_id, run_id, run_type, run_after, state, clear_number, span_status)"
        " VALUES ('d', %s, 'manual', now(), %s, 0, 'not_started')",
        [run_id, state],
    )


def add_task(conn: Connection, task_id: str = "t", run_id: str = "run", state: str | None = None) -> None:
    conn.execute(
        "INSERT INTO task_instance (id, dag_id, task_id, run_id, map_index, try_number, max_tries, state, pool,"
        " pool_slots, span_status) VALUES (gen_random_uuid(), 'd', %s, %s, -1, 0, 2, %s, 'default_pool', 1,"
        " 'not_started')",
        [task_id, run_id, state],
    )


def move(conn: Connection, *states: str | None) -> None:
    """Take the only task instance through states, one statement each."""
    for state in states:
        conn.execute("UPDATE task_instance SET state = %s", [state])


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["queued", "running", "success"], {"success": 1}),
        (["queued", "running", "failed"], {"failed": 1}),
        (["queued", "running", "up_for_retry", None, "queued", "running", "success"], {"failed": 1, "success": 1}),
        (["queued", "running", "up_for_retry", "queued", "running", "failed"], {"failed": 2}),
        (["running", "up_for_reschedule", "queued", "running", "deferred", "scheduled", "success"], {"success": 1}),
        (["upstream_failed"], {"upstream_failed": 1}),
        (["skipped"], {"skipped": 1}),
        (["running", "success", None, "running", "success"], {"success": 2}),  # cleared
        (["running", "restarting", "up_for_retry", "running", "success"], {"failed": 1, "success": 1}),
        (["running", "failed", "success"], {"failed": 1}),  # marked by a person afterwards
        (["running", "success", "success"], {"success": 1}),
    ],
)
def test_each_try_counts_once_as_it_ends(
    services: Stack, database: str, conn: Connection, states: list[str | None], expected: dict[str, int]
) -> None:
    add_run(conn)
    add_task(conn)
    move(conn, *states)
    assert counted(services, database, "task") == {("d", "t", state): count for state, count in expected.items()}


def test_a_transaction_that_is_rolled_back_counts_nothing(services: Stack, database: str, conn: Connection) -> None:
    add_run(conn)
    add_task(conn)
    with conn.transaction(force_rollback=True):
        move(conn, "running", "failed")
    assert counted(services, database, "task") == {}


def test_rows_that_are_added_finished_count(services: Stack, database: str, conn: Connection) -> None:
    add_run(conn)
    add_task(conn, "a", state="skipped")
    add_task(conn, "b", state="running")
    assert counted(services, database, "task") == {("d", "a", "skipped"): 1}


def test_runs_count_and_remember_their_last_success(services: Stack, database: str, conn: Connection) -> None:
    for number, state in enumerate(["success", "failed", "success", "success"]):
        add_run(conn, f"run {number}")
        conn.execute(
            "UPDATE dag_run SET state = %s, end_date = '2026-01-01Z'::timestamptz + %s * interval '1 hour'"
            " WHERE run_id = %s",
            [state, number, f"run {number}"],
        )
    conn.execute("UPDATE dag_run SET state = 'failed' WHERE run_id = 'run 0'")  # marked by a person afterwards
    assert counted(services, database, "run") == {("d", "success"): 3, ("d", "failed"): 1}
    families = {family.name: family for family in airflow_families.families(read(services, database))}
    (sample,) = families["clickstream_last_success_timestamp_seconds"].samples
    assert (sample.labels, sample.value) == ({"dag_id": "d"}, 1767225600 + 3 * 3600)


def test_deleting_what_was_counted_lets_no_counter_fall(services: Stack, database: str, conn: Connection) -> None:
    for number in range(400):
        add_run(conn, f"run {number}")
        add_task(conn, run_id=f"run {number}")
    conn.execute("UPDATE task_instance SET state = 'failed', end_date = now()")
    conn.execute("UPDATE dag_run SET state = 'failed', end_date = now()")
    while conn.execute("SELECT count(*) FROM clickstream.totals").fetchone() == (0,):
        conn.execute("SELECT clickstream.fold_sometimes()")
    before = (counted(services, database, "task"), counted(services, database, "run"))
    assert before == ({("d", "t", "failed"): 400}, {("d", "failed"): 400})
    from airflow.utils.db_cleanup import run_cleanup

    with session(services, database) as other:  # what `airflow db clean --skip-archive` does
        run_cleanup(
            clean_before_timestamp=pendulum.datetime(2100, 1, 1), skip_archive=True, confirm=False, session=other,
            error_on_cleanup_failure=True,
        )  # fmt: skip
    conn.execute("DELETE FROM dag_run")
    assert (counted(services, database, "task"), counted(services, database, "run")) == before


def test_times_fall_into_their_buckets(services: Stack, database: str, conn: Connection) -> None:
    add_run(conn)
    for task_id, queued, ran in (("t", 0.2, 0.5), ("t2", 3, 2000)):
        add_task(conn, task_id)
        conn.execute(
            "UPDATE task_instance SET state = 'success', queued_dttm = now(), duration = %(ran)s,"
            " start_date = now() + %(queued)s * interval '1 s',"
            " end_date = now() + (%(queued)s + %(ran)s) * interval '1 s' WHERE task_id = %(task_id)s",
            {"queued": queued, "ran": ran, "task_id": task_id},
        )
    assert counted(services, database, "duration") == {("d", "t", "0.5"): 1, ("d", "t2", "Infinity"): 1}
    assert counted(services, database, "queued") == {("d", "t", "0.5"): 1, ("d", "t2", "5"): 1}
    families = {family.name: family for family in airflow_families.families(read(services, database))}
    samples = families["airflow_task_duration_seconds"].samples
    of_t = {s.labels["le"]: s.value for s in samples if s.labels["task_id"] == "t" and s.name.endswith("_bucket")}
    assert tuple(float(bound) for bound in of_t) == airflow_families.BOUNDS
    assert set(of_t.values()) == {1}
    assert [s.value for s in samples if s.name.endswith("_sum")] == [0.5, 2000]


def test_folding_changes_no_sum_of_seconds_by_a_bit(services: Stack, database: str, conn: Connection) -> None:
    def finish(numbers: range) -> None:
        for number in numbers:
            add_task(conn, f"t{number}")
            conn.execute(
                "UPDATE task_instance SET state = 'success', task_id = 't', duration = %s, queued_dttm = now(),"
                " start_date = now(), end_date = now(), map_index = %s WHERE task_id = %s",
                [1.1 + number / 70, number, f"t{number}"],
            )

    def fold() -> None:
        while conn.execute("SELECT count(*) FROM clickstream.increments").fetchone() != (0,):
            conn.execute("SELECT clickstream.fold_sometimes()")

    add_run(conn)
    finish(range(50))
    fold()
    finish(range(50, 100))
    before = read(services, database).counters
    fold()
    assert read(services, database).counters == before


def test_a_task_that_never_was_in_the_queue_has_no_time(services: Stack, database: str, conn: Connection) -> None:
    add_run(conn)
    add_task(conn)
    conn.execute("UPDATE task_instance SET state = 'skipped', start_date = now(), end_date = now(), duration = 0")
    assert counted(services, database, "duration") == {}


def test_pools_show_what_airflow_says_of_them(services: Stack, database: str, conn: Connection) -> None:
    conn.execute("DELETE FROM slot_pool WHERE pool <> 'default_pool'")
    conn.execute("INSERT INTO slot_pool (pool, slots, include_deferred) VALUES ('p', 5, true), ('all', -1, false)")
    add_run(conn)
    for number, state in enumerate(["running", "queued", "scheduled", "deferred", "success", None]):
        add_task(conn, f"t{number}", state=state)
    conn.execute("UPDATE task_instance SET pool = 'p', pool_slots = CASE WHEN state = 'running' THEN 2 ELSE 1 END")
    pools = {pool.name: dict(pool.slots) for pool in read(services, database).pools}
    assert pools["p"] == {"open": 1, "running": 2, "queued": 1, "scheduled": 1, "deferred": 1}
    assert pools["all"]["open"] == float("inf")


def test_two_transactions_that_finish_the_same_tasks_never_wait_for_each_other(
    services: Stack, database: str, conn: Connection
) -> None:
    for run_id in ("one", "other"):
        add_run(conn, run_id)
        for task_id in ("a", "b"):
            add_task(conn, task_id, run_id)
    dsn = conn.info.dsn + f" password={credentials.token(services, credentials.AIRFLOW_ROLE)}"
    finish = "UPDATE task_instance SET state = 'failed' WHERE task_id = %s AND run_id = %s"
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        for connection in (one, other):
            connection.execute("SET lock_timeout = '2s'")
        one.execute(finish, ["a", "one"])
        other.execute(finish, ["b", "other"])
        other.execute(finish, ["a", "other"])
        one.execute(finish, ["b", "one"])
        other.commit()
        one.commit()
    assert counted(services, database, "task") == {("d", "a", "failed"): 2, ("d", "b", "failed"): 2}


def test_folding_moves_each_increment_once(services: Stack, database: str, conn: Connection) -> None:
    add_run(conn)
    add_task(conn)
    expected = 0
    while conn.execute("SELECT count(*) FROM clickstream.totals").fetchone() == (0,):
        move(conn, "running", "success")
        expected += 1
        assert expected < 2_000, "none in 2,000 finished tasks folded the increments"
    assert counted(services, database, "task") == {("d", "t", "success"): expected}


def test_missing_triggers_are_told_with_the_remedy(services: Stack, database: str, conn: Connection) -> None:
    conn.execute("ALTER TABLE dag_run DISABLE TRIGGER clickstream_run_finished")
    try:
        with pytest.raises(ClickstreamError, match=r"2 of the 3 triggers.*airflow_metadata\.migrate down 0001"):
            read(services, database)
    finally:
        conn.execute("ALTER TABLE dag_run ENABLE TRIGGER clickstream_run_finished")


def test_down_leaves_airflows_database_as_it_was(services: Stack, database: str, conn: Connection) -> None:
    migrate(services, database, "down", "base")
    try:
        found = Counter(dict(conn.execute("SELECT tgname, 1 FROM pg_trigger WHERE tgname LIKE 'clickstream%'")))
        assert found == {}
        assert conn.execute("SELECT to_regnamespace('clickstream')").fetchone() == (None,)
        add_run(conn)
        add_task(conn)
        move(conn, "running", "success")
    finally:
        migrate(services, database, "up")
    assert "(head)" in migrate(services, database, "status")


def test_an_upgrade_of_airflow_can_take_the_triggers_away_and_keeps_the_counters(
    services: Stack, database: str, conn: Connection
) -> None:
    add_run(conn)
    add_task(conn)
    move(conn, "running", "failed")
    migrate(services, database, "down", "0001")
    conn.execute("ALTER TABLE task_instance ALTER state TYPE varchar(21)")
    migrate(services, database, "up")
    assert counted(services, database, "task") == {("d", "t", "failed"): 1}
    move(conn, "running", "failed")
    assert counted(services, database, "task") == {("d", "t", "failed"): 2}


def test_a_role_that_may_only_use_airflows_tables_is_counted_too(
    services: Stack, database: str, conn: Connection
) -> None:
    add_run(conn)
    add_task(conn)
    with superuser(services, database) as other:
        other.execute("CREATE ROLE airflow_runtime")
        other.execute("GRANT SELECT, UPDATE ON task_instance TO airflow_runtime")
        try:
            other.execute("SET ROLE airflow_runtime")
            move(other, "running", "failed")
        finally:
            other.execute("RESET ROLE")
            other.execute("DROP OWNED BY airflow_runtime")
            other.execute("DROP ROLE airflow_runtime")
    assert counted(services, database, "task") == {("d", "t", "failed"): 1}


def test_triggers_give_up_on_a_busy_table_soon(
    services: Stack, database: str, conn: Connection, tmp_path: Path
) -> None:
    versions = shutil.copytree(airflow.COUNTERS, tmp_path / "versions", ignore=shutil.ignore_patterns("__pycache__"))
    triggers = versions / "0002_triggers.py"
    text, limit = triggers.read_text(encoding="utf-8"), "SET LOCAL lock_timeout = '5s'"
    assert text.count(limit) == 2  # up and down
    triggers.write_text(text.replace(limit, "SET LOCAL lock_timeout = '100ms'"), encoding="utf-8")
    with conn.transaction():
        conn.execute("SELECT count(*) FROM task_instance")
        conn.execute("LOCK TABLE task_instance IN ROW EXCLUSIVE MODE")
        with pytest.raises(OperationalError, match="lock timeout"):
            migrate(services, database, "down", "0001", cli=command_line(versions, explanation=None))
    assert counted(services, database, "task") == {}


def test_the_cost_of_a_scrape_does_not_grow_with_finished_tasks(
    services: Stack, database: str, conn: Connection
) -> None:
    touched = []
    with superuser(services, database) as other:
        for runs in (1_000, 20_000):
            other.execute("TRUNCATE dag_run CASCADE")
            other.execute(
                "INSERT INTO dag_run (dag_id, run_id, run_type, run_after, state, clear_number, span_status)"
                f" SELECT 'd', n::text, 'manual', now(), 'success', 0, 'ended' FROM generate_series(1, {runs}) n"
            )
            other.execute(
                "INSERT INTO task_instance (id, dag_id, task_id, run_id, map_index, try_number, max_tries, state, pool,"
                " pool_slots, span_status) SELECT gen_random_uuid(), dag_id, 't', run_id, -1, 1, 2, state,"
                " 'default_pool', 1, 'ended' FROM dag_run"
            )
            other.execute("VACUUM ANALYZE")
            touched.append({query: blocks(conn, query) for query in (figures.COUNTERS, figures.POOLS, figures.STATE)})
    few, many = touched
    assert {query: (few[query], many[query]) for query in few if many[query] > 1.5 * few[query] + 20} == {}


def blocks(conn: Connection, query: str) -> int:
    ((plan,),) = conn.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}".encode()).fetchall()
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])
