"""## Compact the event files of closed hours, hourly

**What it does.** A batch writes a file for each hour it has events of, so an hour ends with dozens of small ones. Once
an hour's windows are complete, its events are written into as few files as they need; the new files take the place of
the old ones in one transaction, and the old ones are removed a grace later. An hour never shares a file with another.
No number changes.

**What you can do safely.** Clear or trigger it at any time, also beside the other DAGs. A batch that read the old files
of the same hour does not publish (`StaleBase`); its next attempt reads the new ones. With *dry run* on it lists the
hours and changes nothing.

| message | meaning | remedy |
|---|---|---|
| `changed meanwhile, left to the next run` | late events came, or another run was faster | none |
| `OutputMismatch` | a file isn't what the ledger says; its hour stays as it was, others are done | check the storage |
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from clickstream.orchestration import TASK_DEFAULTS, ledger


@dag(
    description="Compacts the event files of closed hours, hourly",
    schedule="17 * * * *",
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    default_args={**TASK_DEFAULTS, "execution_timeout": timedelta(hours=1)},
    doc_md=__doc__,
    tags=["clickstream"],
    params={"dry_run": Param(False, type="boolean", description="Only list the hours that would be compacted.")},
)
def compact_events() -> None:
    """Compact."""

    @task
    def compact(run_id: str | None = None, params: dict[str, object] | None = None) -> list[str]:
        """Returns a line for each hour."""
        from clickstream.maintenance.compaction import compact
        from clickstream.settings import settings

        with ledger() as conn:
            outcome = compact(conn, settings(), str(run_id), dry_run=bool((params or {})["dry_run"]))
        print(outcome, *outcome.lines, sep="\n- ")
        return outcome.lines

    compact()


compact_events()
