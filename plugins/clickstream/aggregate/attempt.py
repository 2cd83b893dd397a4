"""A batch's attempts: what is recorded when it is claimed, and the spec that Spark gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clickstream import storage
from clickstream.ledger import batches

if TYPE_CHECKING:
    from uuid import UUID

    from airflow.sdk import ObjectStoragePath
    from psycopg import Connection

    from clickstream.settings import Settings

WINDOW_MINUTES = (5, 60)
MAX_FUTURE_SECONDS = 300


def claim(conn: Connection[Any], settings: Settings, dag_run_id: str) -> int | None:
    """The batch to work on, with the settings recorded that all of its attempts will use."""
    return batches.claim(
        conn,
        max_offsets=settings.batch_max_offsets,
        settings={
            "allowed_lateness_seconds": settings.allowed_lateness_hours * 3600,
            "max_future_seconds": MAX_FUTURE_SECONDS,
            "window_minutes": WINDOW_MINUTES,
        },
        dag_run_id=dag_run_id,
    )


def folder(settings: Settings, attempt_id: UUID) -> ObjectStoragePath:
    """The folder of an attempt's spec, report and tables."""
    return storage.at(settings.storage_url, "batches", str(attempt_id))


def begin(conn: Connection[Any], settings: Settings, batch_id: int, dag_run_id: str) -> UUID:
    """Register a new attempt, then write its spec: inputs, the batch's settings, where its output goes.

    Raises:
        StaleAttempt: If the batch isn't open.
    """
    attempt = batches.register_attempt(conn, batch_id, dag_run_id)
    home = folder(settings, attempt.attempt_id)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        spec = {
            "batch_id": batch_id,
            "attempt_id": str(attempt.attempt_id),
            "settings": attempt.settings,
            "segments": [vars(segment) for segment in batches.segment_files(conn, batch_id)],
            "retired_hours": batches.retired_hours_within_reach(conn, attempt),
            "event_files": [vars(file) for file in batches.live_event_files(conn, attempt)],
            "output": {
                "events": str(storage.at(settings.storage_url, "events", str(attempt.attempt_id))),
                "rejected": str(storage.at(settings.storage_url, "rejected", str(attempt.attempt_id))),
                "tables": str(home),
                "report": str(home / "report.json"),
            },
        }
    storage.write_json(home / "spec.json", spec)
    return attempt.attempt_id
