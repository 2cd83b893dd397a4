"""## Land Kafka's log in the raw zone, every minute

**What it does.** `wait_for_health` holds the run, for half an hour at most, while `check_health` knows Kafka,
PostgreSQL or the storage to be down; `plan` compares the ledger with the log and gives out bounded ranges of offsets;
`land` writes their records verbatim to Parquet, a task a group of partitions; `commit` turns what was landed into
segments of the ledger, each by compare-and-swap; `report_stops` fails while a partition can't go on, with the reason
and the remedy.

**What you can do safely.** Clear or trigger any task or run at any time, also two at once: progress lives in
`ledger.partitions`, never in Airflow. A task that came too late says `StaleAttempt`, and nothing is to be done.

**When it fails.**

| message | meaning | remedy |
|---|---|---|
| `OffsetsExpired` | Kafka deleted records before they were landed | `declare_loss`; raise the topic's retention |
| `TopicRecreated` | the topic was deleted and created again | `declare_loss` closes the old incarnation |
| `LogTruncated` | the log ends before landed offsets | create the topic again, then `declare_loss` |
| `ProducerTimestamps` | records with CreateTime | set LogAppendTime on the topic, then `declare_loss` |
| `wait_for_health` waits | its log names what is down, since when and why | mend it, then trigger `check_health` |
| cannot connect | broker or PostgreSQL is down | bring it up; the next run catches up by itself |
"""

from datetime import timedelta

from airflow.sdk import dag, task

from clickstream.links import drain_task
from clickstream.orchestration import RAW_ZONE, TASK_DEFAULTS, ledger


@dag(
    description="Lands Kafka's log in the raw zone, every minute",
    schedule="* * * * *",
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=TASK_DEFAULTS,
    doc_md=__doc__,
    tags=["clickstream"],
)
def drain_clickstream() -> None:
    """Wait, plan, land, commit."""

    @task.sensor(mode="reschedule", poke_interval=15, timeout=timedelta(minutes=30))
    def wait_for_health() -> bool:
        """Whether nothing that the drain needs is known to be down."""
        from clickstream.health import gate

        with ledger() as conn:
            return gate.is_open(conn)

    @task
    def plan(run_id: str | None = None) -> list[int]:
        """Give out ranges; returns the ids of the drains."""
        from clickstream.drain.plan import plan
        from clickstream.settings import settings

        with ledger() as conn:
            return plan(conn, settings(), str(run_id))

    @drain_task(pool="drain", execution_timeout=timedelta(minutes=10))
    def land(drain_id: int, run_id: str | None = None) -> str | None:
        """Land one drain's ranges; returns the id of the attempt."""
        from clickstream.drain.land import land
        from clickstream.settings import settings

        with ledger() as conn:
            attempt_id = land(conn, settings(), drain_id, str(run_id))
        return attempt_id and str(attempt_id)

    @drain_task(trigger_rule="all_done", outlets=[RAW_ZONE])
    def commit(attempts: list[str | None]) -> int:
        """Record what was landed; returns the number of segments."""
        from uuid import UUID

        from airflow.sdk.exceptions import AirflowSkipException

        from clickstream.drain.commit import commit
        from clickstream.settings import settings

        landed = [UUID(attempt) for attempt in attempts if attempt]
        if not landed:
            raise AirflowSkipException("Nothing was landed.")
        with ledger() as conn:
            return commit(conn, settings(), landed)

    # The last task, by which Airflow judges the run: it can't succeed where one before it has failed.
    @task(trigger_rule="none_failed", retries=0)
    def report_stops() -> None:
        """Fail while a partition is stopped."""
        from clickstream.drain.plan import report_stops
        from clickstream.settings import settings

        with ledger() as conn:
            report_stops(conn, settings())

    healthy, drains = wait_for_health(), plan()
    landed = land.expand(drain_id=drains)
    committed = commit(landed)
    healthy >> drains
    [drains, landed, committed] >> report_stops()


drain_clickstream()
