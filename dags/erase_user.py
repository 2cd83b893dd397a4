"""## Erase a user: the userId and its sessionIds are replaced by tokens

For a person who asked for it. **This can't be undone.**

**What it does.** With *dry run* on it looks through everything and counts; nothing is changed. Then type the userId
twice and turn *dry run* off. Rows, coordinates and published numbers stay as they are, only the ids change: in the raw
zone, the events, `sessions`, `session_hours`, `users_by_hour` and the excerpts of rejected records all at once, after
that in the rejected zone, the archive and the published days. A list of keyed hashes does the same to every copy that
is landed later: from Kafka, replayed or refilled. A batch or a drain that is at work meanwhile comes too late
(`StaleBase`, `StaleAttempt`), and the next run does it anew.

**What it costs.** Everything is read, the archive twice, and files with the user are written anew. Other work goes on;
at the end of the first part it waits for some seconds. Erasures go one by one.

**Where the userId still is afterwards.**

- *In this run's form* (conf), in Airflow's database, until you delete this run and those of dry runs, under Browse, DAG
  Runs. The log and the ledger name nobody.
- In files that nothing uses any more: they are removed after the grace (`CLICKSTREAM_KEEP_GRACE_HOURS`, 24 h), on S3 as
  noncurrent versions 7 days later. Database snapshots live for 7 days, Kafka's records for its retention.
- Where it is not the value of `userId` or `sessionId`: in a page, a referrer, a header, an eventId.

What remains for good is said in docs/personal-data.md.

| message | meaning | remedy |
|---|---|---|
| `SettingsError` | there is no key, or not the list's | the message says what |
| `RemedyRefused` | the form, another erasure, or files come too fast | the message says what |
| `StaleAttempt` | a file was taken away meanwhile | run it again |
| `OutputMismatch` | events are not as they were written; nothing was erased | see docs/personal-data.md |
| any other, or killed | it may have ended half-way | run it again with the same userId: it goes on |
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from clickstream.orchestration import TASK_DEFAULTS, ledger


@dag(
    description="Replaces a userId and its sessionIds by tokens, everywhere",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "retries": 0, "execution_timeout": timedelta(hours=24)},
    doc_md=__doc__,
    tags=["clickstream", "remedy"],
    params={
        "user_id": Param(
            type="string", minLength=1, maxLength=256, description="The userId, exactly as events spell it."
        ),
        "confirm": Param(
            None, type=["null", "string"], description="The same userId once more; not needed for a dry run."
        ),
        "dry_run": Param(True, type="boolean", description="Only count where the user is."),
    },
)
def erase_user() -> None:
    """Count, then erase."""

    @task
    def erase(params: dict[str, object] | None = None, run_id: str | None = None) -> dict[str, int]:
        """Returns how many records, events and rows were, or would be, changed, by zone and table."""
        from clickstream.erasure.erase import confirmed, erase
        from clickstream.settings import settings

        params = params or {}
        dry_run = bool(params["dry_run"])
        with ledger() as conn:
            user_id = confirmed(str(params["user_id"]), str(params["confirm"] or ""), dry_run=dry_run)
            counts = erase(conn, settings(), user_id, str(run_id), dry_run=dry_run)
        print(f"{'Would change' if dry_run else 'Changed'}:", *(f"{k}: {n:,}" for k, n in counts.items()), sep="\n- ")
        return counts

    erase()


erase_user()
