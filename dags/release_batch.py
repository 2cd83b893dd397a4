"""## Give a batch that can't pass back, to be claimed in smaller parts

A batch of a single segment comes back as it is, though with the settings of today: mend what fails it first.

For an open batch whose every attempt fails, for example because it is too large for Spark's memory. Its segments go
back and are claimed again in batches of at most half its offsets; releasing those again halves again, down to the one
segment that is to blame. Attempts that still run can't publish any more. No record is lost or counted twice.
"""

from airflow.sdk import Param, dag, task

from clickstream.orchestration import TASK_DEFAULTS, ledger


@dag(
    description="Gives a batch that can't pass back, to be claimed in smaller parts",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "retries": 0},
    doc_md=__doc__,
    tags=["clickstream", "remedy"],
    params={
        "batch_id": Param(type="integer", minimum=1, description="The open batch, as ledger.batches names it."),
        "dry_run": Param(True, type="boolean", description="Only say what would be given back."),
    },
)
def release_batch() -> None:
    """Say what would be given back, then do it."""

    @task
    def release(params: dict[str, object] | None = None) -> str:
        """Returns what was, or would be, given back."""
        from clickstream.ledger import batches

        params = params or {}
        with ledger() as conn:
            released = batches.release(conn, int(str(params["batch_id"])), dry_run=bool(params["dry_run"]))
        summary = (
            f"{'Would release' if params['dry_run'] else 'Released'} batch {released.batch_id} after"
            f" {released.attempts} attempts: {released.segments} segments with {released.offsets} offsets go back,"
            f" to be claimed in batches of at most {released.next_limit} offsets."
        )
        print(summary)
        return summary

    release()


release_batch()
