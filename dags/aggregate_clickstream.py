"""## Aggregate landed segments into published windows

**What it does.** `claim` takes the open batch or makes one of the oldest segments; `aggregate` registers a new attempt
and runs Spark on its spec (files in, files out); `publish` makes the results the truth in one transaction, if this
still is the batch's newest attempt, the events it read are unchanged and every record is accounted for. Runs whenever
the drain has committed something, and every five minutes all the same; an empty run only brings the windows' status
up to date.

**What you can do safely.** Clear or trigger anything, also while it runs: each try of `aggregate` is a new attempt with
its own folders, and only the newest can publish, once.

**When it fails.**

| message | meaning | remedy |
|---|---|---|
| `StaleAttempt` | a newer attempt exists or has published | none |
| `StaleBase` | events were rewritten or retired meanwhile | none, the next run reads anew |
| `ConservationBroken` | a record is not accounted for | look at the report; if it stays, `release_batch` |
| `OutputMismatch` | a file isn't what was reported | none, the next run is a new attempt; then check the storage |
| Spark's error | see the task's log | if every attempt fails the same way, `release_batch` |
"""

from datetime import timedelta

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag

from clickstream.aggregate.spark import AggregateBatchOperator
from clickstream.links import batch_task
from clickstream.orchestration import RAW_ZONE, TASK_DEFAULTS, ledger


@dag(
    description="Aggregates landed segments into published windows",
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("*/5 * * * *", timezone="UTC"), assets=[RAW_ZONE]),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=TASK_DEFAULTS,
    doc_md=__doc__,
    tags=["clickstream"],
)
def aggregate_clickstream() -> None:
    """Claim, run Spark, publish."""

    @batch_task
    def claim(run_id: str | None = None) -> int:
        """Claim a batch; returns its id."""
        from airflow.sdk.exceptions import AirflowSkipException

        from clickstream.aggregate.attempt import claim
        from clickstream.ledger.windows import complete_windows
        from clickstream.settings import settings

        with ledger() as conn:
            batch_id = claim(conn, settings(), str(run_id))
            if batch_id is None:
                raise AirflowSkipException(f"Nothing waits; {complete_windows(conn)} windows became complete.")
            return batch_id

    @batch_task(execution_timeout=timedelta(minutes=30))
    def publish(attempt_id: str) -> bool:
        """Publish the attempt."""
        from uuid import UUID

        from clickstream.aggregate.publish import publish
        from clickstream.settings import settings

        with ledger() as conn:
            return publish(conn, settings(), UUID(attempt_id))

    attempt = AggregateBatchOperator(
        task_id="aggregate",
        batch_id=claim(),
        pool="spark",
        execution_timeout=timedelta(minutes=30),
    )
    publish(attempt.output)


aggregate_clickstream()
