"""Metrics of Airflow, from its database."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from clickstream.metrics.families import counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from clickstream.airflow_metadata.figures import Figures

BOUNDS = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, inf)  # as in clickstream.increments_of


def families(figures: Figures) -> Iterator[Metric]:
    """Every metric that Airflow's database tells."""
    of_task = {(one.dag_id, one.task_id, one.label): one.count for one in figures.counters if one.series == "task"}
    of_run = {(one.dag_id, one.label): one for one in figures.counters if one.series == "run"}
    yield counter(
        "airflow_task_instances_finished_total",
        "Tries of task instances that finished, by final state (tries); one that is retried has failed.",
        ["dag_id", "task_id", "state"],
        (_never_failed(of_task) | of_task).items(),
    )
    for series, name, meaning in (
        ("duration", "airflow_task_duration_seconds", "Time that tries of task instances ran (seconds)."),
        ("queued", "airflow_task_queued_seconds", "Time from queuing a task instance to its start (seconds)."),
    ):
        yield histogram(
            name,
            meaning,
            ["dag_id", "task_id"],
            BOUNDS,
            (
                ((one.dag_id, one.task_id), float(one.label), one.count, one.seconds)
                for one in figures.counters
                if one.series == series
            ),
        )
    yield counter(
        "airflow_dag_runs_finished_total",
        "DAG runs that finished, by final state (runs).",
        ["dag_id", "state"],
        (_never_failed(of_run) | {labels: one.count for labels, one in of_run.items()}).items(),
    )
    yield gauge(
        "clickstream_last_success_timestamp_seconds",
        "End of a DAG's newest successful run (seconds since the epoch).",
        ["dag_id"],
        (([one.dag_id], one.last_at) for one in of_run.values() if one.label == "success"),
    )
    yield gauge(
        "airflow_pool_slots",
        "Slots of a pool by state (slots).",
        ["pool", "state"],
        (([pool.name, state], slots) for pool in figures.pools for state, slots in pool.slots.items()),
    )
    yield gauge(
        "airflow_scheduler_heartbeat_timestamp_seconds",
        "Newest heartbeat of any scheduler (seconds since the epoch).",
        [],
        [([], figures.scheduler_heartbeat)],
    )
    yield gauge(
        "airflow_dag_import_errors", "DAG files that can't be parsed (files).", [], [([], figures.import_errors)]
    )


def _never_failed(counted: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Failures of what has finished in any state, from zero: an alert could not see a counter begin with the first."""
    return dict.fromkeys(((*labels[:-1], "failed") for labels in counted), 0)
