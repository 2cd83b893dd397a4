"""User behaviour: how sessions go, who buys, who comes back."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from infra.monitoring.grafana.boards import board, complete_windows, window_minutes
from infra.monitoring.grafana.panels import chart, column, listing, number, ranking
from infra.monitoring.grafana.queries import over_time, rows

ENGAGEMENT = """
SELECT {expression} FROM analytics.engagement_by_window WHERE window_minutes = 60 AND $__timeFilter(window_start)
"""

CONVERSION = """
SELECT dimension, value, sum(sessions_started)::bigint AS sessions,
       (sum(carted) / sum(sessions_started))::double precision AS cart_rate,
       (sum(purchased) / sum(sessions_started))::double precision AS conversion_rate
FROM analytics.conversion_by_window WHERE window_minutes = 60 AND $__timeFilter(window_start)
GROUP BY dimension, value ORDER BY dimension, sessions DESC
"""

USERS = "SELECT count(DISTINCT user_id) AS users FROM analytics.users_by_hour WHERE $__timeFilter(hour)"

NEW_USERS = """
SELECT day AS time, new_users, returning_users FROM analytics.new_users_by_day
WHERE day > $__timeFrom()::timestamptz - interval '24 hours' AND day <= $__timeTo()::timestamptz ORDER BY 1
"""

PAGES = """
SELECT page, sum({count})::bigint AS {count} FROM analytics.pages_by_hour WHERE $__timeFilter(hour)
GROUP BY page HAVING sum({count}) > 0 ORDER BY {count} DESC, page LIMIT 10
"""

LENGTHS = """
SELECT length, count(session_id) AS sessions
FROM (VALUES (1, 'under 10 s', 0, 10), (2, '10 to 60 s', 10, 60), (3, '1 to 5 min', 60, 300),
             (4, '5 to 15 min', 300, 900), (5, '15 to 30 min', 900, 1800), (6, '30 min and more', 1800, NULL)
     ) lengths (place, length, least, under)
LEFT JOIN analytics.sessions s
    ON $__timeFilter(s.started_at) AND extract(epoch FROM s.ended_at - s.started_at) >= least
   AND (under IS NULL OR extract(epoch FROM s.ended_at - s.started_at) < under)
GROUP BY place, length ORDER BY place
"""

SESSIONS = """
SELECT started_at, extract(epoch FROM ended_at - started_at)::double precision AS seconds, events, page_views,
       add_to_carts, purchases, device, region, entry_page, exit_page, bounced, session_id AS session
FROM analytics.sessions WHERE $__timeFilter(started_at) ORDER BY started_at DESC, session_id LIMIT 50
"""

STARTED = "Of the sessions that started in the range; what goes on may still change it."

TOTALS = (
    number(
        "Users",
        rows(USERS),
        description="Distinct over all hours that begin in the range, exact.",
    ),
    number(
        "Sessions started",
        rows(ENGAGEMENT.format(expression="sum(sessions_started)::bigint AS sessions")),
        description="Additive over time.",
    ),
    number(
        "Bounce rate",
        rows(
            ENGAGEMENT.format(expression="(sum(bounced) / nullif(sum(sessions_started), 0))::double precision AS rate")
        ),
        description=f"Sessions with exactly one page view. {STARTED}",
        unit="percentunit",
        decimals=1,
    ),
    number(
        "Pages a session",
        rows(
            ENGAGEMENT.format(expression="(sum(page_views) / nullif(sum(sessions_started), 0))::double precision AS n")
        ),
        description=STARTED,
        decimals=2,
    ),
    number(
        "Length of a session",
        rows(ENGAGEMENT.format(expression="(sum(seconds) / nullif(sum(sessions_started), 0))::double precision AS s")),
        description=f"Average from its first to its last event. {STARTED}",
        unit="s",
        decimals=0,
    ),
    number(
        "New users, newest day",
        rows("SELECT new_users FROM analytics.new_users_by_day ORDER BY day DESC LIMIT 1"),
        description="Without an event before that UTC day, within the hours kept; whatever range is chosen.",
    ),
)

ENGAGEMENT_CHARTS = (
    chart(
        "Bounce rate",
        over_time(complete_windows("bounce_rate", "engagement_by_window")),
        description="By the window in which sessions started; complete windows only.",
        unit="percentunit",
        maximum=1,
        width=8,
    ),
    chart(
        "Pages a session",
        over_time(complete_windows("pages_per_session", "engagement_by_window")),
        description="By the window in which sessions started; complete windows only.",
        width=8,
    ),
    chart(
        "Average length of a session",
        over_time(complete_windows("average_session_seconds", "engagement_by_window")),
        description="By the window in which sessions started; complete windows only.",
        unit="s",
        width=8,
    ),
)

CONVERSIONS = (
    chart(
        "Conversion by device",
        over_time(
            complete_windows("value AS metric, conversion_rate", "conversion_by_window", where="dimension = 'device'")
        ),
        description="Sessions with a purchase of those that started; complete windows only.",
        unit="percentunit",
        width=8,
    ),
    chart(
        "Conversion by region",
        over_time(
            complete_windows("value AS metric, conversion_rate", "conversion_by_window", where="dimension = 'region'")
        ),
        description="Sessions with a purchase of those that started; complete windows only.",
        unit="percentunit",
        width=8,
    ),
    listing(
        "Conversion over the range",
        rows(CONVERSION),
        description=f"Every session counts once in each dimension. {STARTED}",
        columns={"cart_rate": column(unit="percentunit"), "conversion_rate": column(unit="percentunit")},
        width=8,
        height=8,
    ),
)

PATHS = (
    ranking("Entry pages", rows(PAGES.format(count="entries")), description=STARTED, width=6),
    ranking("Exit pages", rows(PAGES.format(count="exits")), description=STARTED, width=6),
    ranking("Pages of bounced sessions", rows(PAGES.format(count="bounces")), description=STARTED, width=6),
    ranking("Sessions by length", rows(LENGTHS), description=STARTED, width=6),
)

PEOPLE = (
    chart(
        "New and returning users by UTC day",
        over_time(NEW_USERS),
        description="New: without an event before that day, within the hours kept. The current day still grows.",
        stacked_bars=True,
        width=8,
    ),
    listing(
        "Sessions that started last",
        rows(SESSIONS),
        description="The newest 50 of the range.",
        columns={"seconds": column(unit="s")},
        width=16,
        height=8,
    ),
)


def make() -> Dashboard:
    """Return the dashboard."""
    return board(
        "clickstream-user-behaviour",
        "User behaviour",
        "How sessions go, who buys and who comes back; times in UTC.",
        {
            "": TOTALS,
            "Engagement": ENGAGEMENT_CHARTS,
            "Conversion": CONVERSIONS,
            "Where sessions begin and end, over the range": PATHS,
            "People": PEOPLE,
        },
        hours=24,
        refresh="1m",
        variables=[window_minutes()],
    )
