"""## Let data age, daily

**What it does.** Publishes closed days for analysts, retires hours, raw files, rejected records, attempts, archived
minutes, windows and sessions that have been kept for their period, folds old rows of the ledger, and removes the files
that nothing names any more, a grace later. Each task is one step; a step that fails stops none of the others, and the
run fails at its end.

**What never goes.** What is not published, what the open batch may still read, an hour that Kafka can still send an
event for, a day that analysts don't have yet, the archive while a refill reads it.

**What you can do safely.** Clear or trigger anything, at any time, also twice: each step decides anew from the ledger,
in transactions of its own. With *dry run* on, every step lists what would go and how many bytes once the steps before
it were done, and changes nothing; publishing waits some seconds for three of them. Run it so before a shorter period
takes effect: pause this DAG, change the period, look, unpause it.

| message | meaning | remedy |
|---|---|---|
| `RetentionRefused` | events would go that Kafka could still add to | the message names the setting |
| `waits until it is a published day` | analysts don't have all of the day yet | see `publish_days` |
| `OutputMismatch` | a file isn't what the ledger says | check the storage; nothing was changed |
| `RemovalFailed` | the storage refuses to remove some files, which it names | check permissions, owner and disk |

Periods: `CLICKSTREAM_KEEP_..._DAYS`, docs/retention.md. What waits for its removal: `SELECT * FROM ledger.removals`.
"""

from datetime import timedelta
from itertools import pairwise

from airflow.sdk import Param, dag, task

from clickstream.maintenance.steps import STEPS
from clickstream.orchestration import TASK_DEFAULTS, ledger


@dag(
    description="Lets data age: publishes days, retires, folds and sweeps, daily",
    schedule="23 1 * * *",
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
    default_args={**TASK_DEFAULTS, "execution_timeout": timedelta(hours=3)},
    doc_md=__doc__,
    tags=["clickstream"],
    params={
        "dry_run": Param(False, type="boolean", description="Only list what would go, and how many bytes."),
    },
)
def maintain_storage() -> None:
    """One step after the other, then the sum."""

    @task(trigger_rule="all_done")
    def step(name: str, params: dict[str, object] | None = None) -> dict[str, object]:
        """Run a step; returns what it did, or would do."""
        from clickstream.maintenance import steps
        from clickstream.settings import settings

        with ledger() as conn:
            return steps.run(name, conn, settings(), dry_run=bool((params or {})["dry_run"]))

    @task
    def report(done: list[dict[str, object]], params: dict[str, object] | None = None) -> None:
        """Print a table of all steps; runs only if none has failed."""
        from clickstream.maintenance import steps

        print(steps.table(done, dry_run=bool((params or {})["dry_run"])))

    done = [step.override(task_id=name)(name) for name in STEPS]
    for earlier, later in pairwise(done):
        earlier >> later
    report(done)


maintain_storage()
