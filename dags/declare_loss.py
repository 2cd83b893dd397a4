"""## Declare offsets lost, so that a stopped partition goes on

For partitions that `drain_clickstream` reports as `OffsetsExpired`, `TopicRecreated` or `ProducerTimestamps`. Looks at
the log anew and lists what is lost. With *dry run* off, it writes that down (`ledger.losses`, and a segment without a
file, so that every offset stays accounted for) and the partition goes on behind it. A loss can't be taken back: what
the archive holds can be filled in again under new offsets.
"""

from airflow.sdk import Param, dag, task

from clickstream.orchestration import TASK_DEFAULTS, ledger


@dag(
    description="Writes down offsets that are gone, so that a stopped partition goes on",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "retries": 0},
    doc_md=__doc__,
    tags=["clickstream", "remedy"],
    params={
        "partition": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            description="Only this partition; empty for all stopped ones.",
        ),
        "reason": Param(
            "",
            type="string",
            maxLength=500,
            description="Why, for those who ask later; needed when it is no dry run.",
        ),
        "dry_run": Param(True, type="boolean", description="Only list what would be declared lost."),
    },
)
def declare_loss() -> None:
    """List what is lost, then write it down."""

    @task
    def declare(params: dict[str, object] | None = None, run_id: str | None = None) -> list[str]:
        """Returns a line for each loss."""
        from clickstream.remedies import loss
        from clickstream.settings import settings

        params = params or {}
        with ledger() as conn:
            found = loss.losses(conn, settings(), params["partition"])
            if not params["dry_run"]:
                loss.declare(conn, found, reason=str(params["reason"]), dag_run_id=str(run_id))
        lines = [str(item) for item in found]
        print("Would declare lost:" if params["dry_run"] else "Declared lost:", *lines, sep="\n- ")
        return lines

    declare()


declare_loss()
