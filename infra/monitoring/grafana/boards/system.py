"""System: what the pipeline runs on: Airflow, Kafka, disks, and the monitoring itself."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from infra.monitoring.grafana.boards import board
from infra.monitoring.grafana.links import run_of
from infra.monitoring.grafana.panels import (
    BAD,
    GOOD,
    NONE_IS_GOOD,
    ONE_IS_GOOD,
    WARNING,
    chart,
    column,
    good_above,
    good_below,
    listing,
    number,
    states,
    words,
)
from infra.monitoring.grafana.queries import course, now, over_time, rows

DISK_FREE = 0.15  # share; below it the alert DiskFilling fires
SCRAPED = 'job="clickstream"'
PARTITION = "{{topic}}/{{partition}}"
TASK = "{{dag_id}} {{task_id}}"

CHECKS = """
SELECT checked_at AS time, component AS metric, latency_seconds FROM ledger.health_checks
WHERE $__timeFilter(checked_at) ORDER BY 1, 2
"""

FAILED_CHECKS = """
SELECT checked_at, component, status, reason, latency_seconds AS latency, dag_run_id AS run FROM ledger.health_checks
WHERE status <> 'ok' AND $__timeFilter(checked_at) ORDER BY checked_at DESC, component LIMIT 50
"""

VERDICT = (
    number(
        "Exporter",
        now(f"min(up{{{SCRAPED}}}) * min(exporter_scrape_success)"),
        description="Whether Prometheus gets the pipeline's metrics, and they are whole.",
        steps=ONE_IS_GOOD,
        mappings=[words({"1": ("up", GOOD), "0": ("down", BAD)})],
    ),
    number(
        "Scheduler's heartbeat",
        now("time() - airflow_scheduler_heartbeat_timestamp_seconds"),
        description="Age of the newest heartbeat of Airflow's scheduler.",
        unit="s",
        steps=good_below(30, 60),
        decimals=0,
    ),
    number(
        "DAG files that fail",
        now("airflow_dag_import_errors"),
        description="Import errors: the UI shows each with its traceback.",
        steps=NONE_IS_GOOD,
    ),
    number(
        "Failed tasks, last hour",
        now(
            'sum(increase(airflow_task_instances_finished_total{state="failed"}[1h]))'
            " or 0 * sum(airflow_task_instances_finished_total)"
        ),
        description="Tries that failed, retried or not.",
        steps=((None, GOOD), (0.5, WARNING)),
        decimals=0,
    ),
    number(
        "Kafka, produce to consume",
        now("clickstream_canary_roundtrip_seconds"),
        description="Round trip of the health check's own record.",
        unit="s",
        steps=good_below(1, 5),
    ),
    number(
        "Least disk left",
        now("min(clickstream_disk_free_bytes / clickstream_disk_size_bytes)"),
        description="Free share of the fuller of the volumes of storage and database on this host.",
        unit="percentunit",
        steps=good_above(DISK_FREE, 0.25),
        decimals=1,
    ),
)

AIRFLOW = (
    chart(
        "Tasks finished a minute, by state",
        course("60 * sum by (state) (rate(airflow_task_instances_finished_total[5m]))", "{{state}}"),
        description="Every try counts.",
    ),
    chart(
        "Failed tasks in the last hour",
        course(
            "sum by (dag_id, task_id) (increase("
            'airflow_task_instances_finished_total{state=~"failed|upstream_failed"}[1h]))',
            TASK,
        ),
        description="Tries that failed, and tasks that did not run as one before them failed.",
    ),
    chart(
        "How long tasks run, 95th percentile",
        course(
            "histogram_quantile(0.95, sum by (le, dag_id, task_id) (rate(airflow_task_duration_seconds_bucket[30m])))",
            TASK,
        ),
        description="Of the last 30 minutes.",
        unit="s",
    ),
    chart(
        "How long tasks wait in the queue, 95th percentile",
        course(
            "histogram_quantile(0.95, sum by (le, dag_id) (rate(airflow_task_queued_seconds_bucket[30m])))",
            "{{dag_id}}",
        ),
        description="Of the last 30 minutes. If it grows, a pool is full or the scheduler is slow.",
        unit="s",
    ),
    chart(
        "Runs finished in the last hour",
        course("sum by (dag_id, state) (increase(airflow_dag_runs_finished_total[1h]))", "{{dag_id}} {{state}}"),
        description="By DAG and state.",
    ),
    chart(
        "Slots of pools",
        course("airflow_pool_slots", "{{pool}} {{state}}"),
        description="A pool without open slots holds back its tasks.",
    ),
)

KAFKA = (
    chart(
        "Records a second, by partition",
        course("rate(clickstream_log_end_offset[5m])", PARTITION),
        description="Growth of each partition's log.",
        unit="recps",
        width=8,
    ),
    chart(
        "Lag in records, by partition",
        course("clickstream_lag_records", PARTITION),
        description="As of the last plan of the drain.",
        width=8,
    ),
    chart(
        "Records kept in the log, by partition",
        course("clickstream_log_end_offset - clickstream_log_start_offset", PARTITION),
        description="Offsets from the start of the log to its end.",
        width=8,
    ),
)

HOST = (
    chart(
        "Disk free",
        course("clickstream_disk_free_bytes / clickstream_disk_size_bytes", "{{volume}}"),
        description="Free share of each volume; below the line an alert fires.",
        unit="percentunit",
        maximum=1,
        steps=((None, BAD), (DISK_FREE, GOOD)),
        width=8,
    ),
    states(
        "Targets of Prometheus",
        course("up", "{{job}} {{instance}}"),
        description="Whether each scrape succeeded.",
        mappings=[words({"1": ("up", GOOD), "0": ("down", BAD)})],
        width=8,
    ),
    chart(
        "How long a scrape takes",
        course("scrape_duration_seconds", "{{job}}"),
        description="The pipeline's metrics cost the same however long its history.",
        unit="s",
        width=8,
    ),
    chart(
        "Latency of health checks",
        over_time(CHECKS),
        description="How long each check took; of kafka_canary, from producing to consuming.",
        unit="s",
    ),
    listing(
        "Checks that were not ok",
        rows(FAILED_CHECKS),
        description="What was found, and what to do.",
        columns={
            "status": column(mappings=[words({"degraded": ("degraded", WARNING), "down": ("down", BAD)})]),
            "latency": column(unit="s"),
            "run": column(link=run_of("check_health")),
        },
        width=12,
        height=8,
    ),
)


def make() -> Dashboard:
    """Return the dashboard."""
    return board(
        "clickstream-system",
        "System",
        "Airflow, Kafka, disks, and the monitoring itself.",
        {"": VERDICT, "Airflow": AIRFLOW, "Kafka": KAFKA, "Host and monitoring": HOST},
        hours=6,
        refresh="30s",
    )
