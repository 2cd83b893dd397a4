"""The demo: one burst of the handler goes through Kafka, both DAGs and Spark into PostgreSQL, and is accounted for."""

import json
import time
from typing import Any

import psycopg
from rich.console import Console

from infra.local import credentials, generator, lifecycle
from infra.local.airflow_api import AirflowApi
from infra.local.commands import run
from infra.local.errors import StackError
from infra.local.stack import PYTHON, REPOSITORY, Stack
from infra.local.supervision import base_environment
from infra.local.tables import show

EVENTS = 1_000
PUBLISHED_WITHIN_SECONDS = 240
CHECKED_WITHIN_SECONDS = 60

PENDING = """
SELECT count(*) FROM jsonb_each_text(%(last_offsets)s::jsonb) o (partition, last_offset)
WHERE NOT EXISTS (
    SELECT FROM ledger.segments s
    JOIN ledger.batches b USING (batch_id) JOIN ledger.partitions p USING (topic_id, partition)
    WHERE b.state = 'published' AND p.closed_at IS NULL AND s.partition = o.partition::int
      AND o.last_offset::bigint >= s.first_offset AND o.last_offset::bigint < s.end_offset)
"""

WINDOWS = """
SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS window, window_minutes AS minutes, events,
       page_views, add_to_carts, purchases, users, sessions, status, revision
FROM analytics.traffic_by_window
WHERE window_start >= date_trunc('hour', %(minute)s::timestamptz, 'UTC') - interval '1 hour'
ORDER BY window_minutes DESC, window_start
"""

SESSIONS = """
SELECT session_id AS session, to_char(started_at AT TIME ZONE 'UTC', 'HH24:MI:SS') AS started,
       round(extract(epoch FROM ended_at - started_at), 1) AS seconds, events, page_views AS views,
       add_to_carts AS carts, purchases, device, region, entry_page, exit_page, bounced
FROM analytics.sessions ORDER BY ended_at DESC, session_id LIMIT 10
"""

FUNNEL = """
SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS window, window_minutes AS minutes,
       sessions_viewed, sessions_carted, sessions_purchased
FROM analytics.funnel_by_window
WHERE window_start >= date_trunc('hour', %(minute)s::timestamptz, 'UTC') - interval '1 hour'
ORDER BY window_minutes DESC, window_start
"""

TOP_PAGES = """
SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS window, window_minutes AS minutes, page, views,
       users, sessions
FROM analytics.pages_by_window
WHERE window_minutes = 60 AND window_start = date_trunc('hour', %(minute)s::timestamptz, 'UTC')
ORDER BY views DESC, page COLLATE "C" LIMIT 10
"""

REVENUE = """
SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS window, window_minutes AS minutes, currency,
       purchases, amount
FROM analytics.revenue_by_window
WHERE window_minutes = 60 AND window_start = date_trunc('hour', %(minute)s::timestamptz, 'UTC') ORDER BY currency
"""

BATCHES = """
SELECT b.batch_id AS batch, b.planned, b.landed, b.absent, b.lost, b.accepted, b.duplicate, b.late, b.rejected
FROM ledger.batches b WHERE b.state = 'published' ORDER BY b.batch_id DESC LIMIT 5
"""

HEALTH = """
SELECT component, status, round(latency_seconds * 1000)::int AS latency_ms, reason
FROM ledger.health_checks WHERE dag_run_id = %(run_id)s ORDER BY status = 'ok', component
"""

CONSERVATION = "SELECT check_name, subject, value, unaccounted FROM ledger.conservation"


def demo(stack: Stack, console: Console) -> bool:
    """Run the demo on a stack, started if it isn't up; returns whether windows were published and all balances.

    Raises:
        StackError: A step failed or took too long; says which, and where to look.
    """
    console.rule("1. The stack")
    lifecycle.up(stack, report=lambda line: console.print(f"  {line}"))
    console.rule(f"2. A burst of about {EVENTS} events from the Lambda handler")
    burst = make_burst(stack)
    console.print(f"  {burst['events']} events of {burst['minute']} in {burst['archive']}, and in Kafka")
    began = time.monotonic()
    console.rule("3. drain_clickstream, then aggregate_clickstream, both run by Airflow")
    with AirflowApi(stack) as api, psycopg.connect(credentials.reader_url(stack), autocommit=True) as conn:
        run_id = api.trigger("drain_clickstream")
        if api.wait_for_run("drain_clickstream", run_id) != "success":
            raise StackError(
                f"The drain {run_id} failed.", remedy=f"Its tasks say why: {api.run_url('drain_clickstream', run_id)}"
            )
        console.print(f"  drained after {time.monotonic() - began:.1f} s: {api.run_url('drain_clickstream', run_id)}")
        with console.status("  waiting for the windows"):
            wait_until_published(stack, conn, burst)
        console.print(f"  published after {time.monotonic() - began:.1f} s")
        console.rule("4. What analysts see: analytics.traffic_by_window, UTC")
        windows = show(conn, console, WINDOWS, minute=burst["minute"])
        for title, query in (
            ("5. The sessions seen last: analytics.sessions", SESSIONS),
            ("6. The funnel: analytics.funnel_by_window", FUNNEL),
            ("7. The top pages of the hour: analytics.pages_by_window", TOP_PAGES),
            ("8. The revenue of the hour: analytics.revenue_by_window", REVENUE),
        ):
            console.rule(title)
            show(conn, console, query, minute=burst["minute"])
        console.rule("9. Where every record went: ledger.batches, the last five")
        show(conn, console, BATCHES)
        console.rule("10. The proof: ledger.conservation")
        checks = show(conn, console, CONSERVATION)
        console.rule("11. How each component is: check_health, into ledger.health_checks")
        run_id = api.trigger("check_health")
        try:
            if api.wait_for_run("check_health", run_id, seconds=CHECKED_WITHIN_SECONDS) != "success":
                console.print(f"  something is down: {api.run_url('check_health', run_id)}")
        except StackError as error:  # what the demo shows does not depend on it
            console.print(f"  {error.problem} {error.remedy}")
        show(conn, console, HEALTH, run_id=run_id)
    unaccounted = sum(abs(check["unaccounted"]) for check in checks)
    console.print(
        f"{'Balanced' if unaccounted == 0 else 'NOT BALANCED'}: {unaccounted} offsets or records unaccounted for."
        f" Look around at {stack.airflow_url}; `make psql` for the tables, `make lineage` for where a window"
        " comes from, `make down` to stop."
    )
    return bool(windows) and unaccounted == 0


def make_burst(stack: Stack, *, events: int = EVENTS) -> dict[str, Any]:
    """Call the handler for about so many events of this minute; returns its summary."""
    printed = run(
        [PYTHON, "-m", "infra.local.eventbridge", "--burst", str(events)],
        purpose="make a burst of events",
        remedy=f"Is Kafka up? `make status` tells; its log is {stack.log('kafka')}.",
        environment=base_environment() | generator.environment(stack),
        directory=REPOSITORY,
    )
    return dict(json.loads(printed.strip().splitlines()[-1]))


def wait_until_published(stack: Stack, conn: psycopg.Connection[Any], burst: dict[str, Any]) -> None:
    """Wait until the last record of a burst in each partition is in a published batch.

    Raises:
        StackError: It takes too long.
    """
    deadline = time.monotonic() + PUBLISHED_WITHIN_SECONDS
    last_offsets = json.dumps(burst["partitions"])
    while conn.execute(PENDING, {"last_offsets": last_offsets}).fetchone() != (0,):
        if time.monotonic() > deadline:
            raise StackError(
                f"The burst is not published after {PUBLISHED_WITHIN_SECONDS} s.",
                remedy=f"Look at the runs of aggregate_clickstream: {stack.airflow_url}/dags/aggregate_clickstream",
            )
        time.sleep(0.25)
