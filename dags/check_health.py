"""## Check every component, every five minutes

**What it does.** `check` looks at everything at the same time, each with a deadline of its own, and writes one row a
component to `ledger.health_checks`: *ok*; *degraded*, it works but needs attention; or *down*, with the latency and a
reason that says what to do. `report` lists what isn't ok and fails if anything is down. A component that isn't
configured has no row. The newest row of each: `SELECT * FROM ledger.health`.

**What follows from it.** `drain_clickstream` waits while the newest row of `kafka`, `postgresql` or `storage` is down
and younger than ten minutes. Nothing else waits for anything here.

**What you can do safely.** Clear or trigger it at any time, as after a repair: the drain goes on once the row is ok.

| component | looks at | when it isn't ok |
|---|---|---|
| `kafka` | brokers, leaders and replicas, settings of the topic | start the broker; `kafka-configs --alter` |
| `kafka_canary` | a record through `clickstream-canary` and back | the broker's log, load and rights |
| `postgresql` | a committed write, connections, disk | its log and locks; close idle connections; free space |
| `ledger` | every equation of `ledger.conservation` | ask why before the numbers are used; `make lineage` |
| `spark` | spark-submit; workers of a standalone master | PATH and JAVA_HOME of Airflow; start a worker |
| `storage` | put, get, compare, delete; disk | mount, rights, space of `CLICKSTREAM_STORAGE_URL` |
| `generator` | age of the newest archive file | the generator's or the Lambda's log, its schedule |
| `airflow_scheduler`, `airflow_dag_processor` | their heartbeats | start it; its log |
| `airflow` | import errors, pools, the exporter | Dags page; Admin, Pools; the API server's log |
| `prometheus` | itself and its targets | its log; the target that the reason names |
| `grafana` | itself and its database | its log |
| `aws_stacks` | both stacks' state | `provision_infrastructure`; docs/aws.md |
| `aws_ec2` | the host's state, EC2's checks, what AWS plans for it | start it; stop and start it |
| `aws_rds` | the database's state, free storage, pending changes | start it; let it grow |
| `aws_lambda` | the generator's function, schedule, dead letter queue | enable the rule; `refill_from_archive` |

If `check` itself fails, PostgreSQL did not take the rows: its message lists what was found all the same.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from clickstream.orchestration import TASK_DEFAULTS, ledger


@dag(
    description="Checks every component, every five minutes",
    schedule="*/5 * * * *",
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    default_args={**TASK_DEFAULTS, "retries": 0},
    doc_md=__doc__,
    tags=["clickstream"],
)
def check_health() -> None:
    """Check, then report."""

    @task
    def check(run_id: str | None = None) -> int:
        """Check and write the rows; returns how many."""
        from clickstream.health import installation, run

        return run.check(installation.this(), str(run_id))

    @task
    def report(run_id: str | None = None) -> None:
        """Fail while anything is down."""
        from clickstream.health import run

        with ledger() as conn:
            run.report(conn, str(run_id))

    check() >> report()


check_health()
