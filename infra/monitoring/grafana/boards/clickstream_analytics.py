"""Clickstream analytics: how many, what, from where, for how much; windows are asked for by width."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from infra.monitoring.grafana.boards import board, complete_windows, window_minutes
from infra.monitoring.grafana.panels import GOOD, WARNING, chart, column, listing, number, ranking, words
from infra.monitoring.grafana.queries import over_time, rows

EVENT_TYPES = ("page_views", "add_to_carts", "purchases", "logins", "logouts")
INCLUDES_OPEN = "Windows that are not complete yet are included."
ONLY_COMPLETE = "Complete windows only: of what is on time nothing is missing."


def _sum_of_hours(expression: str, source: str = "traffic_by_window") -> str:
    return f"SELECT {expression} FROM analytics.{source} WHERE window_minutes = 60 AND $__timeFilter(window_start)"


EVENTS = """
SELECT window_start AS time, status AS metric, events FROM analytics.traffic_by_window
WHERE window_minutes = ${minutes} AND $__timeFilter(window_start) ORDER BY 1
"""

AUDIENCE = """
SELECT value, sum(events)::bigint AS events FROM analytics.audience_by_window
WHERE window_minutes = 60 AND dimension = '{dimension}' AND $__timeFilter(window_start)
GROUP BY value ORDER BY events DESC, value LIMIT 10
"""

PAGES = """
SELECT page, sum(views)::bigint AS views FROM analytics.pages_by_hour WHERE $__timeFilter(hour)
GROUP BY page ORDER BY views DESC, page LIMIT 10
"""

DAY_BEFORE = """
SELECT metric, last_24h, day_before, change, change_percent, until FROM analytics.last_24_hours
"""

DAYS = """
SELECT day, events, page_views, add_to_carts, purchases, users, sessions_started, hours,
       CASE WHEN complete THEN 'complete' ELSE 'provisional' END AS status
FROM analytics.traffic_by_day
WHERE day > $__timeFrom()::timestamptz - interval '24 hours' AND day <= $__timeTo()::timestamptz ORDER BY day DESC
"""

REVENUE_DAYS = """
SELECT day, currency, purchases, amount FROM analytics.revenue_by_day
WHERE day > $__timeFrom()::timestamptz - interval '24 hours' AND day <= $__timeTo()::timestamptz
ORDER BY day DESC, currency
"""

COMPLETENESS = "SELECT extract(epoch FROM complete_until) * 1000 AS complete_until FROM analytics.completeness"

TOTALS = (
    number("Events", rows(_sum_of_hours("sum(events)::bigint AS events")), description=INCLUDES_OPEN),
    number("Page views", rows(_sum_of_hours("sum(page_views)::bigint AS page_views")), description=INCLUDES_OPEN),
    number("Purchases", rows(_sum_of_hours("sum(purchases)::bigint AS purchases")), description=INCLUDES_OPEN),
    number(
        "Sessions started",
        rows(_sum_of_hours("sum(sessions_started)::bigint AS sessions", "engagement_by_window")),
        description=f"Additive, unlike sessions seen in a window. {INCLUDES_OPEN}",
    ),
    number(
        "Purchases a session",
        rows(
            _sum_of_hours(
                "sum(purchased)::double precision / nullif(sum(sessions_started), 0) AS conversion",
                "conversion_by_window",
            )
            + " AND dimension = 'device'"
        ),
        description="Sessions with a purchase of all that started. Every session counts once, by device.",
        unit="percentunit",
        decimals=2,
    ),
    number(
        "Complete until",
        rows(COMPLETENESS),
        description="Of windows that end by then no on-time data is missing. UTC.",
        unit="dateTimeAsIsoNoDateIfToday",
    ),
)

WINDOWS = (
    chart(
        "Events, complete and provisional windows",
        over_time(EVENTS),
        description="Provisional windows still grow; late and historic data may change either.",
        stacked_bars=True,
    ),
    chart(
        "Events by type",
        over_time(complete_windows(", ".join(EVENT_TYPES), "traffic_by_window")),
        description=ONLY_COMPLETE,
        stacked_bars=True,
    ),
    chart(
        "Users and sessions",
        over_time(complete_windows("users, sessions", "traffic_by_window")),
        description=f"Distinct within each window, exact, and not to be added up. {ONLY_COMPLETE}",
    ),
    chart(
        "Funnel: sessions that viewed, carted, purchased",
        over_time(complete_windows("sessions_viewed, sessions_carted, sessions_purchased", "funnel_by_window")),
        description=f"In whatever order, within each window. {ONLY_COMPLETE}",
    ),
    chart(
        "Revenue by currency",
        over_time(complete_windows("currency AS metric, amount", "revenue_by_window")),
        description=f"In units of each currency; currencies are never added up. {ONLY_COMPLETE}",
        stacked_bars=True,
    ),
    chart(
        "Purchases by currency",
        over_time(complete_windows("currency AS metric, purchases", "revenue_by_window")),
        description=ONLY_COMPLETE,
        stacked_bars=True,
    ),
)

AUDIENCES = (
    *(
        ranking(
            f"Events by {dimension}",
            rows(AUDIENCE.format(dimension=dimension)),
            description=f"The ten with most events. {INCLUDES_OPEN}",
            width=6,
        )
        for dimension in ("device", "region", "referrer")
    ),
    ranking("Top pages by views", rows(PAGES), description=f"The ten viewed most. {INCLUDES_OPEN}", width=6),
)

COMPARISONS = (
    listing(
        "The last 24 complete hours against the 24 before",
        rows(DAY_BEFORE),
        description="Whatever range is chosen above. For another moment: analytics.compare_day(until).",
        columns={"change_percent": column(unit="percent")},
        width=12,
    ),
    listing(
        "Revenue by day",
        rows(REVENUE_DAYS),
        description="UTC days within the range.",
        columns={},
        width=12,
    ),
    listing(
        "Days",
        rows(DAYS),
        description="UTC days within the range; a provisional one is not over, or on-time data is missing.",
        columns={
            "status": column(
                mappings=[
                    words({"complete": ("complete", GOOD), "provisional": ("provisional", WARNING)}),
                ]
            )
        },
    ),
)


def make() -> Dashboard:
    """Return the dashboard."""
    return board(
        "clickstream-analytics",
        "Clickstream analytics",
        "Events, users, sessions, pages, audience and revenue, as published; times in UTC.",
        {
            "": TOTALS,
            "By window": WINDOWS,
            "Who and what, over the range": AUDIENCES,
            "Days": COMPARISONS,
        },
        hours=24,
        refresh="1m",
        variables=[window_minutes()],
    )
