"""Every metric by name, and the samples of a scrape."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from infra.local import credentials
from infra.local.stack import Stack
from tests.kit.waiting import wait_for

LABELS_OF_PARTITION = ("partition", "topic")
NAMES = {  # type, and labels in the order of their names
    "clickstream_batches_total": ("counter", "outcome"),
    "clickstream_records_total": ("counter", "disposition"),
    "clickstream_rejected_records_total": ("counter", "reason"),
    "clickstream_batch_duration_seconds": ("histogram", "stage"),
    "clickstream_last_success_timestamp_seconds": ("gauge", "dag_id"),
    "clickstream_watermark_timestamp_seconds": ("gauge",),
    "clickstream_unpublished_records": ("gauge",),
    "clickstream_open_batch_age_seconds": ("gauge",),
    "clickstream_open_batch_attempts": ("gauge",),
    "clickstream_committed_offset": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_log_start_offset": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_log_end_offset": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_lag_records": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_lag_seconds": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_retention_headroom_seconds": ("gauge", *LABELS_OF_PARTITION),
    "clickstream_partition_stopped": ("gauge", "partition", "reason", "topic"),
    "clickstream_unaccounted_records": ("gauge",),
    "clickstream_audit_timestamp_seconds": ("gauge",),
    "clickstream_canary_roundtrip_seconds": ("gauge",),
    "clickstream_component_up": ("gauge", "component"),
    "clickstream_component_degraded": ("gauge", "component"),
    "clickstream_disk_free_bytes": ("gauge", "volume"),
    "clickstream_disk_size_bytes": ("gauge", "volume"),
    "airflow_task_instances_finished_total": ("counter", "dag_id", "state", "task_id"),
    "airflow_task_duration_seconds": ("histogram", "dag_id", "task_id"),
    "airflow_task_queued_seconds": ("histogram", "dag_id", "task_id"),
    "airflow_dag_runs_finished_total": ("counter", "dag_id", "state"),
    "airflow_pool_slots": ("gauge", "pool", "state"),
    "airflow_scheduler_heartbeat_timestamp_seconds": ("gauge",),
    "airflow_dag_import_errors": ("gauge",),
    "exporter_scrape_success": ("gauge",),
    "build_info": ("gauge", "airflow", "python", "revision", "version"),
}

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Each sample by its name and the values of its labels, in the order of the labels' names."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_key = {(s.name, *(s.labels[label] for label in sorted(s.labels))): s.value for s in found}
    assert len(by_key) == len(found)
    return by_key


def counters(stack: Stack) -> Samples:
    """Every counter that Prometheus would scrape now, as soon as it could."""
    headers = {"Authorization": f"Bearer {credentials.token(stack, 'metrics_token')}"}
    answer = wait_for(lambda: httpx.get(stack.metrics_url, headers=headers, timeout=30), "scrape")
    answer.raise_for_status()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }
