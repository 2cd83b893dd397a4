"""One scrape, after 1,000 and after 1,000,000 task instances and as many ledger rows: the history costs nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import psycopg
from prometheus_client import generate_latest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.measure import alternating, end, milliseconds, output, show
from benchmarks.postgres import new_database, server
from clickstream.airflow_metadata import figures as airflow_figures
from clickstream.ledger import metrics as ledger_figures
from clickstream.metrics import airflow_families, ledger_families
from clickstream.metrics.collector import Exporter
from infra.local import airflow, credentials
from infra.local.java import find_java
from infra.local.ports import LOOPBACK
from tests.kit.services import superuser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from infra.local.stack import Stack

LIMIT_MS = 100
LIMIT_RATIO = 1.5
ROUNDS = 30
TASKS_A_RUN = 5  # as in drain_clickstream, the DAG that runs most

RUNS = """
INSERT INTO dag_run (dag_id, run_id, run_type, run_after, state, end_date, clear_number, span_status)
SELECT 'drain_clickstream', 'scheduled__' || n, 'scheduled', now() - n * interval '1 minute', 'running',
       now() - n * interval '1 minute', 0, 'not_started'
FROM generate_series(1, %(runs)s) n
"""

TASKS = """
INSERT INTO task_instance (id, dag_id, task_id, run_id, map_index, try_number, max_tries, state, pool, pool_slots,
                           queued_dttm, start_date, end_date, duration, span_status)
SELECT gen_random_uuid(), dag_id, 'task_' || t, run_id, -1, 1, 2,
       CASE WHEN t = 1 AND id %% 50 = 0 THEN 'failed' ELSE 'success' END, 'default_pool', 1,
       run_after, run_after + interval '0.2 seconds', run_after + t * interval '0.7 seconds', t * 0.7 - 0.2,
       'not_started'
FROM dag_run, generate_series(1, %(tasks)s) t
"""

FINISH_RUNS = "UPDATE dag_run SET state = 'success'"

PARTITIONS = """
INSERT INTO ledger.partitions (topic, topic_id, partition, first_offset, next_offset, log_start_offset, log_end_offset,
                               settled, observed_at, last_record_at, retention_seconds)
SELECT 'clickstream-events', 'id', p, 0, %(batches)s * 200, 0, %(batches)s * 200, true, now(), now(), 604800
FROM generate_series(0, 2) p
"""

BATCHES = """
INSERT INTO ledger.batches (state, attempt, planned, landed, absent, lost, accepted, duplicate, late, rejected,
                            id_conflicts, settings, created_at, published_at, dag_run_id)
SELECT 'published', 1, 600, 600, 0, 0, 590, 4, 3, 3, 0, '{}', at, at + interval '20 seconds', 'scheduled__' || n
FROM (SELECT n, now() - n * interval '1 minute' AS at FROM generate_series(%(batches)s, 1, -1) n) n
"""

ATTEMPTS = """
INSERT INTO ledger.attempts (batch_id, attempt, state, dag_run_id, created_at)
SELECT batch_id, 1, 'committed', dag_run_id, created_at FROM ledger.batches
"""

SEGMENTS = """
INSERT INTO ledger.segments (topic_id, partition, first_offset, end_offset, records, absent, lost, historic,
                             first_record_at, last_record_at, path, bytes, batch_id, previous_end)
SELECT 'id', p, (b - 1) * 200, b * 200, 200, 0, 0, 0, now() - (%(batches)s - b + 1) * interval '1 minute',
       now() - (%(batches)s - b) * interval '1 minute', format('raw/%%s/%%s', p, b), 20000, b,
       CASE WHEN b > 1 THEN (b - 1) * 200 END
FROM generate_series(1, %(batches)s) b, generate_series(0, 2) p
"""

REJECTED = "INSERT INTO ledger.rejected_counts SELECT batch_id, 'not_json', 3 FROM ledger.batches"

HEALTH = """
INSERT INTO ledger.health_checks (component, checked_at, status, latency_seconds, reason, dag_run_id)
SELECT 'component_' || c, now() - n * interval '5 minutes', 'ok', 0.1, 'fine', 'scheduled__' || n
FROM generate_series(1, 12) c, generate_series(0, %(checks)s) n
"""
CHECKS_KEPT = 7 * 24 * 12  # a week of them, every five minutes


@click.command(help=__doc__)
@click.option("--tasks", default=1_000_000, show_default=True, help="Task instances of the long history.")
def main(tasks: int) -> None:
    """Fill two pairs of databases, then scrape each in turn."""
    with server() as stack:
        scrapes: dict[str, Callable[[], float]] = {}
        with _scraper(stack, 1_000) as short, _scraper(stack, tasks) as long:
            scrapes = {"1,000": short, f"{tasks:,}": long}
            medians = alternating(scrapes, rounds=ROUNDS)
    ratio = medians[f"{tasks:,}"] / medians["1,000"]
    rows = [(f"{name} task instances", taken) for name, taken in medians.items()]
    show(f"One scrape in ms, median of {ROUNDS}", ("history", "median"), rows)
    output.print(f"Ratio {ratio:.2f}; limits: {LIMIT_RATIO} and {LIMIT_MS} ms")
    missed = [f"{name} took {taken:.1f} ms, the limit is {LIMIT_MS} ms" for name, taken in rows if taken > LIMIT_MS]
    if ratio > LIMIT_RATIO:
        missed.append(f"ratio {ratio:.2f}, the limit is {LIMIT_RATIO}")
    end(missed)


@contextmanager
def _scraper(stack: Stack, tasks: int) -> Iterator[Callable[[], float]]:
    """A history of so many task instances, and what scrapes it once and returns milliseconds."""
    engine = _airflow_history(stack, tasks)
    ledger = _ledger_history(stack, batches=tasks // TASKS_A_RUN)

    def airflow_families_now() -> Iterator[Any]:
        with Session(engine) as session:
            yield from airflow_families.families(airflow_figures.read(session))

    def ledger_families_now() -> Iterator[Any]:
        with psycopg.connect(ledger, autocommit=True) as conn:
            yield from ledger_families.families(ledger_figures.read(conn))

    exporter = Exporter({"airflow": airflow_families_now, "ledger": ledger_families_now}, revision="benchmark")

    def scrape() -> float:
        taken = milliseconds(lambda: texts.append(generate_latest(exporter)))
        if b"exporter_scrape_success 1.0" not in texts.pop():
            raise RuntimeError("The scrape could not read its sources; the log above says why.")
        return taken

    texts: list[bytes] = []
    yield scrape
    engine.dispose()


def _airflow_history(stack: Stack, tasks: int) -> Engine:
    """Airflow's own database, made by its migrations, with finished task instances."""
    with superuser(stack) as conn:
        conn.execute("DROP DATABASE airflow WITH (FORCE)")
        conn.execute(f"CREATE DATABASE airflow OWNER {credentials.AIRFLOW_ROLE} TEMPLATE template0")
    airflow.prepare(stack)
    (stack.folder / "airflow" / "migrated").unlink(missing_ok=True)
    airflow.migrate(stack, find_java())
    name = f"airflow_{tasks}"
    with superuser(stack) as conn:
        conn.execute(f"ALTER DATABASE airflow RENAME TO {name}")
        conn.execute(f"CREATE DATABASE airflow OWNER {credentials.AIRFLOW_ROLE} TEMPLATE template0")
    with superuser(stack, name) as conn:
        output.print(f"  {tasks:,} task instances")
        conn.execute(RUNS, {"runs": tasks // TASKS_A_RUN})
        conn.execute(TASKS, {"tasks": TASKS_A_RUN})
        conn.execute(FINISH_RUNS)
        conn.execute("ANALYZE")  # as autovacuum does
    password = credentials.token(stack, credentials.AIRFLOW_ROLE)
    return create_engine(
        f"postgresql+psycopg2://{credentials.AIRFLOW_ROLE}:{password}@{LOOPBACK}:{stack.ports.postgres}/{name}"
    )


def _ledger_history(stack: Stack, *, batches: int) -> str:
    """A ledger of so many published batches; returns its URL."""
    database = new_database(stack)
    with superuser(stack, database) as conn:
        output.print(f"  {batches:,} batches")
        conn.execute("SET session_replication_role = replica")  # counting one by one is for batches that come so
        for statement in (PARTITIONS, BATCHES, ATTEMPTS, SEGMENTS, REJECTED):
            conn.execute(statement.encode(), {"batches": batches} if "%(" in statement else None)
        conn.execute(HEALTH, {"checks": min(batches, CHECKS_KEPT)})
        conn.execute("ANALYZE")
    password = credentials.token(stack, "clickstream_writer")
    return f"postgresql://clickstream_writer:{password}@{LOOPBACK}:{stack.ports.postgres}/{database}"


if __name__ == "__main__":
    main()
