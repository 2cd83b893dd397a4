"""SQL of the metrics about Airflow: counters of what finished, and the present state of pools and scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from clickstream.errors import ClickstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

STATEMENT_TIMEOUT_MS = 1_500  # the first statement that a lock holds up ends the reading
TRIGGERS = 3


@dataclass(frozen=True, kw_only=True)
class Counter:
    """A row of `clickstream.totals`, with what is not folded into it yet.

    Attributes:
        series: `task`, `run`, `duration` or `queued`.
        dag_id: The DAG.
        task_id: The task; empty for runs.
        label: The final state or, of `duration` and `queued`, the bucket's upper bound in seconds.
        count: How many since the triggers exist.
        seconds: Their sum, of `duration` and `queued`.
        last_at: End of the newest, in seconds since the epoch.
    """

    series: str
    dag_id: str
    task_id: str
    label: str
    count: int
    seconds: float
    last_at: float | None


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool's slots by state; `open` is infinite for an unlimited pool."""

    name: str
    slots: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What Airflow's database says.

    Attributes:
        counters: All of them.
        pools: All of them.
        scheduler_heartbeat: Newest heartbeat of any scheduler in seconds since the epoch, None before the first.
        import_errors: DAG files that don't parse.
    """

    counters: list[Counter]
    pools: list[Pool]
    scheduler_heartbeat: float | None
    import_errors: int


COUNTERS = """
SELECT series, dag_id, task_id, label, sum(count)::bigint AS count, sum(seconds)::float8 AS seconds,
       extract(epoch FROM max(last_at))::float8 AS last_at
FROM (SELECT * FROM clickstream.totals UNION ALL SELECT * FROM clickstream.increments) counted
GROUP BY series, dag_id, task_id, label ORDER BY series, dag_id, task_id, label
"""

# The states are constants, which the planner knows to be rare and finds by index, so that finished tasks cost nothing.
POOLS = """
WITH taken AS (
    SELECT pool, state, sum(pool_slots)::bigint AS slots FROM task_instance
    WHERE state IN ('running', 'queued', 'scheduled', 'deferred') GROUP BY pool, state)
SELECT p.pool, p.slots, p.include_deferred, s.state, coalesce(t.slots, 0)
FROM slot_pool p CROSS JOIN (VALUES ('running'), ('queued'), ('scheduled'), ('deferred')) s (state)
LEFT JOIN taken t ON t.pool = p.pool AND t.state = s.state ORDER BY p.pool
"""

STATE = """
SELECT (SELECT extract(epoch FROM max(latest_heartbeat))::float8 FROM job WHERE job_type = 'SchedulerJob'),
       (SELECT count(*) FROM import_error),
       (SELECT count(*) FROM pg_trigger WHERE tgname IN
           ('clickstream_task_finished', 'clickstream_task_added', 'clickstream_run_finished') AND tgenabled <> 'D')
"""


def read(session: Session) -> Figures:
    """Read all figures in one read-only snapshot.

    Args:
        session: Session on Airflow's database, outside of a transaction.

    Raises:
        ClickstreamError: The triggers that feed the counters are missing.
        sqlalchemy.exc.SQLAlchemyError: The database can't be read, or takes too long.
    """
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    session.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    heartbeat, import_errors, triggers = session.execute(text(STATE)).one()
    if triggers != TRIGGERS:
        raise ClickstreamError(
            f"Airflow's database has {triggers} of the {TRIGGERS} triggers that count finished tasks and runs. Make"
            " them: `make up` in the embedded stack; elsewhere `python -m clickstream.airflow_metadata.migrate down"
            " 0001`, then `up`, with PGHOST, PGPORT, PGDATABASE, PGUSER and PGPASSFILE of that database."
        )
    return Figures(
        counters=[Counter(**row) for row in session.execute(text(COUNTERS)).mappings()],
        pools=_pools(session),
        scheduler_heartbeat=heartbeat,
        import_errors=import_errors,
    )


def _pools(session: Session) -> list[Pool]:
    taken: dict[str, dict[str, float]] = {}
    for pool, slots, include_deferred, state, count in session.execute(text(POOLS)):
        of_pool = taken.setdefault(pool, {"open": float("inf") if slots < 0 else slots})
        of_pool[state] = count
        if state in {"running", "queued"} or (include_deferred and state == "deferred"):
            of_pool["open"] -= count
    return [Pool(name=name, slots=slots) for name, slots in taken.items()]
