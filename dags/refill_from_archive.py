"""## Produce the events of some minutes once more, from the archive

For events that Kafka has lost before they were landed: a lost volume, a recreated topic, a database that was restored
to a time whose offsets Kafka no longer holds. Run `declare_loss` first, so that the partitions go on.

**What it does.** Reads the archive's files of these minutes and produces their lines verbatim, each with the header
`clickstream-load: historic`, so that none is late but in a retired hour. Events that had arrived count as duplicates:
taking too many minutes, or running it twice, changes no window. With *dry run* on it reads and counts all the same,
and produces nothing.

**What it costs.** The records are drained and aggregated like any others. A batch with one of them reads the live
events of every hour that it touches, and changes their windows.

**What it can't bring back.** Records that no Lambda made, such as a replayed access log: replay it again.

| message | meaning | remedy |
|---|---|---|
| `RemedyRefused` | the minutes, the topic or the archive don't fit | the message says what |
| `RefillIncomplete` | Kafka did not take everything | see the brokers, run it again from the hour it names |
| `no file of ...` | the Lambda wrote nothing in these minutes | its log tells whether it ran |

How to find the minutes: `kafka-volume-lost` and `database-restored` in docs/runbooks/procedures/.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from clickstream.orchestration import TASK_DEFAULTS, ledger


@dag(
    description="Produces archived events once more, as a historic load",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**TASK_DEFAULTS, "retries": 0, "execution_timeout": timedelta(hours=6)},
    doc_md=__doc__,
    tags=["clickstream", "remedy"],
    params={
        "from_minute": Param(
            type="string",
            format="date-time",
            description="The first minute, with its offset from UTC, as in 2026-01-31T12:05:00Z.",
        ),
        "to_minute": Param(type="string", format="date-time", description="The last minute; it is refilled too."),
        "producer": Param(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
            description="Only the files of this producerId; empty for all.",
        ),
        "dry_run": Param(True, type="boolean", description="Only count what would be produced."),
    },
)
def refill_from_archive() -> None:
    """Count, then produce."""

    @task
    def refill(params: dict[str, object] | None = None) -> list[str]:
        """Returns what was, or would be, produced."""
        from clickstream.remedies.refill import Span, refill
        from clickstream.settings import settings

        params = params or {}
        producer = params["producer"]
        with ledger() as conn:
            span = Span.parse(str(params["from_minute"]), str(params["to_minute"]))
            found = refill(
                conn,
                settings(),
                span,
                producer_id=None if producer is None else str(producer),
                dry_run=bool(params["dry_run"]),
            )
        lines = found.lines()
        print(f"{'Would produce' if params['dry_run'] else 'Produced'}, of {span}:", *lines, sep="\n- ")
        return lines

    refill()


refill_from_archive()
