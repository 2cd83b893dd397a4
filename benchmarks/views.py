"""The views over months of data: a panel of 24 hours answers within 50 ms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import psycopg

from benchmarks import history
from benchmarks.measure import end, milliseconds, output, show
from benchmarks.postgres import new_database, server
from infra.local import credentials, lifecycle
from tests.kit.services import superuser

if TYPE_CHECKING:
    from infra.local.stack import Stack

LIMIT_MS = 50
WARM_RUNS = 20
WINDOWS = "window_minutes = {minutes} AND window_start >= {since} AND window_start < {until}"
FIVE, SIXTY = WINDOWS.replace("{minutes}", "5"), WINDOWS.replace("{minutes}", "60")
PANELS = {
    "engagement_by_window, 5 minutes": f"SELECT * FROM analytics.engagement_by_window WHERE {FIVE}",
    "engagement_by_window, 60 minutes": f"SELECT * FROM analytics.engagement_by_window WHERE {SIXTY}",
    "conversion_by_window, 5 minutes": f"SELECT * FROM analytics.conversion_by_window WHERE {FIVE}",
    "conversion_by_window, summed up": (
        "SELECT dimension, value, sum(purchased) / sum(sessions_started) FROM analytics.conversion_by_window"
        f" WHERE {SIXTY} GROUP BY 1, 2"
    ),
    "pages_by_hour, top 20": (
        "SELECT page, sum(views), sum(entries), sum(exits), sum(bounces) FROM analytics.pages_by_hour"
        " WHERE hour >= {since} AND hour < {until} GROUP BY 1 ORDER BY 2 DESC LIMIT 20"
    ),
    "traffic_by_day": "SELECT * FROM analytics.traffic_by_day WHERE day >= {since} AND day < {until}",
    "revenue_by_day": "SELECT * FROM analytics.revenue_by_day WHERE day >= {since} AND day < {until}",
    "new_users_by_day": "SELECT * FROM analytics.new_users_by_day WHERE day >= {since} AND day < {until}",
    "compare_day(until)": "SELECT * FROM analytics.compare_day({until})",
    "last_24_hours": "SELECT * FROM analytics.last_24_hours",
    "completeness": "SELECT * FROM analytics.completeness",
}


@click.command(help=__doc__)
@click.option("--days", default=90, show_default=True, help="Days of data, all at the generator's default rate.")
def main(days: int) -> None:
    """Fill a database, then ask each view."""
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    with server() as stack:
        database = new_database(stack)
        with superuser(stack, database) as conn:
            history.fill(conn, first=until - timedelta(days=days), days=days, report=output.print)
        rows, missed = [], []
        for name, panel in PANELS.items():
            query = panel.format(since=f"'{until - timedelta(days=1)}'", until=f"'{until}'")
            lifecycle.restart(stack, "postgres")
            with _reader(stack, database) as conn:
                first, found = _time(conn, query)
                warm = median(_time(conn, query)[0] for _ in range(WARM_RUNS))
            rows.append((name, found, first, warm))
            if warm > LIMIT_MS:
                missed.append(f"{name} took {warm:.1f} ms, the limit is {LIMIT_MS} ms")
    show(
        f"24 hours out of {days} days, in ms; limit {LIMIT_MS} ms for the median of {WARM_RUNS}",
        ("view", "rows", "first after a restart", "median"),
        rows,
    )
    end(missed)


def _reader(stack: Stack, database: str) -> psycopg.Connection[tuple[Any, ...]]:
    url = credentials.reader_url(stack).rpartition("/")[0]
    return psycopg.connect(f"{url}/{database}", autocommit=True)


def _time(conn: psycopg.Connection[Any], query: str) -> tuple[float, int]:
    found: list[object] = []
    taken = milliseconds(lambda: found.extend(conn.execute(query.encode()).fetchall()))
    return taken, len(found)


if __name__ == "__main__":
    main()
