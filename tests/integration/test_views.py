"""The views' numbers, against sums over the same events in plain Python; and how they are found."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.kit import rollback
from tests.kit.pipeline import Pipeline
from tests.kit.services import REPOSITORY

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = datetime(2026, 3, 7, tzinfo=UTC)
ZONE = "America/New_York"  # of the tests' connections: its clocks change on the second day, which has 23 hours there
SET_ZONE = sql.SQL("SET TIME ZONE {}").format(sql.Literal(ZONE))
KINDS = {"PAGE_VIEW": "page_views", "ADD_TO_CART": "add_to_carts", "PURCHASE": "purchases", "LOGIN": "logins"}
DIMENSIONS = ("all", "device", "region", "entry_page", "exit_page")


@dataclass(frozen=True)
class Event:
    at: datetime
    session: str
    user: str
    kind: str
    page: str = "/"
    device: str = "mobile"
    region: str = "eu"
    currency: str = "EUR"
    amount: Decimal = Decimal("9.99")


@dataclass(frozen=True)
class Session:
    events: list[Event]

    @property
    def pages(self) -> list[str]:
        return [e.page for e in self.events if e.kind == "PAGE_VIEW"]

    @property
    def start(self) -> datetime:
        return self.events[0].at

    @property
    def seconds(self) -> Decimal:
        return Decimal((self.events[-1].at - self.start) // timedelta(microseconds=1)) / 1_000_000

    def did(self, kind: str) -> bool:
        return any(e.kind == kind for e in self.events)

    def values(self) -> dict[str, str | None]:
        first, pages = self.events[0], self.pages
        ends = (pages[0], pages[-1]) if pages else (None, None)
        return dict(zip(DIMENSIONS, ("", first.device, first.region, *ends), strict=True))


def random_events(seed: int, *, days: int = 4, sessions: int = 400) -> list[Event]:
    """Sessions over some days, across midnight too; the third day is empty, some have no page view."""
    draw = Random(seed)  # noqa: S311 - no secrets
    events = []
    for number in range(sessions):
        day = draw.choice([n for n in range(days) if n != 2])
        at = FIRST + day * DAY + timedelta(microseconds=draw.choice([draw.randrange(86_400_000_000), 86_399_000_000]))
        at = at if day != 1 else min(at, FIRST + 2 * DAY - HOUR)
        user = f"u{draw.randrange(60) + 20 * day}"
        device, region = draw.choice(["mobile", "desktop", "tv"]), draw.choice(["eu", "us"])
        for _ in range(draw.choice([1, 1, 2, 5])):
            events.append(
                Event(
                    at,
                    f"s{number}",
                    user,
                    draw.choice(["PAGE_VIEW"] * 4 + ["ADD_TO_CART", "PURCHASE", "LOGIN"]),
                    draw.choice(["/", "/a", "/b", "/" + "c" * 1000]),
                    device,
                    region,
                    draw.choice(["EUR", "USD"] if day else ["EUR", "CHF"]),
                    Decimal(draw.randrange(1_000_000)) / 1_000_000,
                )
            )
            at += timedelta(microseconds=draw.randrange(1, 600_000_000))
    return events


def window(at: datetime, minutes: int) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // (minutes * 60) * minutes * 60, UTC)


def hour_of(at: datetime) -> datetime:
    return window(at, 60)


def day_of(at: datetime) -> datetime:
    return window(at, 24 * 60)


def grouped(keyed: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups = defaultdict(list)
    for key, one in keyed:
        groups[key].append(one)
    return dict(groups)


def sessions_of(events: list[Event]) -> list[Session]:
    groups = grouped((e.session, e) for e in events)
    return [Session(sorted(group, key=lambda e: e.at)) for group in groups.values()]


def counts(events: list[Event]) -> list[int]:
    return [len(events), *(sum(e.kind == kind for e in events) for kind in KINDS)]


def insert(conn: psycopg.Connection[Any], table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns.split()))
    copying = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier("analytics", table), names)
    with conn.cursor().copy(copying) as copy:
        for row in rows:
            copy.write_row(row)


def fill(conn: psycopg.Connection[Any], events: list[Event], *, status: str = "complete") -> None:
    """Write the rows that these events have in the tables that views read."""
    at = [((window(e.at, minutes), minutes), e) for e in events for minutes in (5, 60)]
    insert(
        conn, "traffic_by_window",
        f"window_start window_minutes events {' '.join(KINDS.values())} logouts users sessions status batch_id",
        [
            (*w, *counts(some), 0, len({e.user for e in some}), len({e.session for e in some}), status, 1)
            for w, some in grouped(at).items()
        ],
    )  # fmt: skip
    insert(
        conn, "pages_by_window", "window_start window_minutes page views users sessions",
        [
            (*w, page, len(some), len({e.user for e in some}), len({e.session for e in some}))
            for (w, page), some in grouped(((w, e.page), e) for w, e in at if e.kind == "PAGE_VIEW").items()
        ],
    )  # fmt: skip
    insert(
        conn, "revenue_by_window", "window_start window_minutes currency purchases amount",
        [
            (*w, currency, len(some), sum(e.amount for e in some))
            for (w, currency), some in grouped(((w, e.currency), e) for w, e in at if e.kind == "PURCHASE").items()
        ],
    )  # fmt: skip
    insert(conn, "users_by_hour", "hour user_id", {(hour_of(e.at), e.user) for e in events})
    started = grouped(
        ((window(s.start, minutes), minutes, dimension, value), s)
        for s in sessions_of(events)
        for minutes in (5, 60)
        for dimension, value in s.values().items()
        if value is not None
    )
    insert(
        conn, "sessions_by_window",
        "window_start window_minutes dimension value sessions bounced carted purchased page_views seconds",
        [
            (
                *key, len(some), sum(len(s.pages) == 1 for s in some), sum(s.did("ADD_TO_CART") for s in some),
                sum(s.did("PURCHASE") for s in some), sum(len(s.pages) for s in some), sum(s.seconds for s in some),
            )
            for key, some in started.items()
        ],
    )  # fmt: skip


@pytest.fixture
def conn(shared: Pipeline) -> Iterator[psycopg.Connection[Any]]:
    """Within a transaction of which nothing stays."""
    with rollback.transaction(shared) as connection:
        connection.execute(SET_ZONE)
        yield connection


@pytest.fixture
def own(pipeline: Pipeline) -> Iterator[psycopg.Connection[Any]]:
    """On a database of the test's own, where each statement is a transaction."""
    with pipeline.superuser() as connection:
        connection.execute(SET_ZONE)
        yield connection


def rows(conn: psycopg.Connection[Any], query: str, *values: object) -> list[tuple[Any, ...]]:
    return [
        tuple(one.astimezone(UTC) if isinstance(one, datetime) else one for one in row)
        for row in conn.execute(query, values).fetchall()
    ]


def rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def rate(part: Decimal | int, whole: int, places: int = 4) -> Decimal | None:
    return rounded(Decimal(part) / whole, places) if whole else None


@pytest.fixture(params=[1, 2])
def events(request: pytest.FixtureRequest, conn: psycopg.Connection[Any]) -> list[Event]:
    made = random_events(request.param)
    fill(conn, made)
    return made


def test_engagement_by_window(conn: psycopg.Connection[Any], events: list[Event]) -> None:
    for minutes in (5, 60):
        started = grouped((window(s.start, minutes), s) for s in sessions_of(events))
        expected = []
        for start in sorted({window(e.at, minutes) for e in events}):
            some = started.get(start, [])
            bounced, views = sum(len(s.pages) == 1 for s in some), sum(len(s.pages) for s in some)
            seconds = sum((s.seconds for s in some), Decimal(0))
            rates = (rate(bounced, len(some)), rate(seconds, len(some), 2), rate(views, len(some), 2))
            expected.append((start, minutes, "complete", len(some), bounced, views, seconds, *rates))
        assert any(row[3] == 0 for row in expected)  # a window of sessions that had started before it
        assert expected == rows(
            conn, "SELECT * FROM analytics.engagement_by_window WHERE window_minutes = %s ORDER BY 1", minutes
        )


def test_conversion_by_window(conn: psycopg.Connection[Any], events: list[Event]) -> None:
    expected = [
        (
            *key, len(some), carted, purchased, rate(carted, len(some)), rate(purchased, len(some)),
        )
        for key, some in sorted(
            grouped(
                ((window(s.start, minutes), minutes, dimension, s.values()[dimension]), s)
                for s in sessions_of(events)
                for minutes in (5, 60)
                for dimension in ("device", "region")
            ).items()
        )
        for carted, purchased in [(sum(s.did("ADD_TO_CART") for s in some), sum(s.did("PURCHASE") for s in some))]
    ]  # fmt: skip
    assert expected == rows(conn, "SELECT * FROM analytics.conversion_by_window ORDER BY 1, 2, 3, 4")


def test_pages_by_hour(conn: psycopg.Connection[Any], events: list[Event]) -> None:
    expected: defaultdict[tuple[datetime, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for e in events:
        expected[hour_of(e.at), e.page][0] += int(e.kind == "PAGE_VIEW")
    for s in (one for one in sessions_of(events) if one.pages):
        expected[hour_of(s.start), s.pages[0]][1] += 1
        expected[hour_of(s.start), s.pages[-1]][2] += 1
        expected[hour_of(s.start), s.pages[0]][3] += int(len(s.pages) == 1)
    assert any(not views and exits for views, _, exits, _ in expected.values())  # of a later hour
    assert sorted((*key, *numbers) for key, numbers in expected.items() if sum(numbers)) == rows(
        conn, 'SELECT * FROM analytics.pages_by_hour ORDER BY hour, page COLLATE "C"'
    )


def test_days(conn: psycopg.Connection[Any], events: list[Event]) -> None:
    days = grouped((day_of(e.at), e) for e in events)
    started = grouped((day_of(s.start), s) for s in sessions_of(events))
    assert [
        (
            day, len({hour_of(e.at) for e in some}), *counts(some), 0, len({e.user for e in some}),
            len(started.get(day, [])), day != max(days),  # the last has only begun
        )
        for day, some in sorted(days.items())
    ] == rows(conn, "SELECT * FROM analytics.traffic_by_day ORDER BY 1")  # fmt: skip
    sold = grouped(((day_of(e.at), e.currency), e.amount) for e in events if e.kind == "PURCHASE")
    assert [(*key, len(amounts), sum(amounts)) for key, amounts in sorted(sold.items())] == rows(
        conn, "SELECT * FROM analytics.revenue_by_day ORDER BY 1, 2"
    )
    known: set[str] = set()
    expected = []
    for day, some in sorted(days.items()):
        users = {e.user for e in some}
        expected.append((day, len(users), len(users - known), len(users & known)))
        known |= users
    assert sum(new > 0 and returning > 0 for _, _, new, returning in expected) > 1
    assert expected == rows(conn, "SELECT * FROM analytics.new_users_by_day ORDER BY 1")
    assert expected[1:2] == rows(conn, "SELECT * FROM analytics.new_users_by_day WHERE day = %s", FIRST + DAY)


def compared(events: list[Event], until: datetime) -> list[tuple[Any, ...]]:
    spans = []
    currencies = {
        e.currency for e in events if e.kind == "PURCHASE" and until - 2 * DAY <= e.at < until
    }  # fmt: skip
    for end in (until, until - DAY):
        some = [e for e in events if end - DAY <= e.at < end]
        started = [s for s in sessions_of(events) if end - DAY <= s.start < end]
        metrics: dict[str, Decimal | None] = dict(
            zip(("events", "page_views", "", "purchases"), map(Decimal, counts(some)), strict=False)
        )
        del metrics[""]
        metrics["sessions_started"] = Decimal(len(started))
        for name, part in (
            ("bounce_rate", sum(len(s.pages) == 1 for s in started)),
            ("conversion_rate", sum(s.did("PURCHASE") for s in started)),
        ):
            metrics[name] = Decimal(part) / len(started) if started else None
        metrics["users"] = Decimal(len({e.user for e in some}))
        for currency in sorted(currencies):
            sold = [e.amount for e in some if e.kind == "PURCHASE" and e.currency == currency]
            metrics[f"revenue {currency}"] = sum(sold, Decimal(0))
        spans.append(metrics)
    found = []
    for metric, new in spans[0].items():
        old, places = spans[1][metric], 4 if "rate" in metric else 6 if "revenue" in metric else 0
        if new is None or old is None:
            both = [None if one is None else rounded(one, places) for one in (new, old)]
            found.append((metric, *both, None, None))
        else:
            percent = rounded(100 * (new - old) / old, 2) if old else None
            found.append((metric, *(rounded(one, places) for one in (new, old, new - old)), percent))
    return found


@pytest.mark.parametrize(
    "until",
    [
        pytest.param(FIRST + 2 * DAY, id="two days with events, at midnight"),
        pytest.param(FIRST + 4 * DAY, id="nothing the day before"),
        pytest.param(FIRST + 3 * DAY, id="nothing in the last 24 hours"),
        pytest.param(FIRST + DAY + 7 * HOUR, id="over midnight; another currency"),
        pytest.param(FIRST - 9 * DAY, id="nothing at all"),
    ],
)
def test_a_day_against_the_day_before(conn: psycopg.Connection[Any], until: datetime) -> None:
    events = random_events(3)
    fill(conn, events)
    expected = compared(events, until)
    assert expected == rows(conn, "SELECT * FROM analytics.compare_day(%s)", until)
    cut = until + timedelta(minutes=59, seconds=59)
    assert expected == rows(conn, "SELECT * FROM analytics.compare_day(%s)", cut)


def test_a_user_of_both_days_counts_in_each(conn: psycopg.Connection[Any]) -> None:
    midnight = FIRST + DAY
    before, after = midnight - timedelta(microseconds=1), midnight
    fill(conn, [Event(before, "s", "both", "PAGE_VIEW"), Event(after, "s", "both", "LOGIN"),
                Event(after, "t", "one", "LOGIN")])  # fmt: skip
    assert rows(conn, "SELECT day, users, sessions_started, hours FROM analytics.traffic_by_day ORDER BY 1") == [
        (FIRST, 1, 1, 1),
        (midnight, 2, 1, 1),
    ]
    assert rows(conn, "SELECT * FROM analytics.new_users_by_day ORDER BY 1") == [
        (FIRST, 1, 1, 0),
        (midnight, 2, 1, 1),
    ]
    found = dict(rows(conn, "SELECT metric, last_24h FROM analytics.compare_day(%s)", midnight + DAY))
    assert (found["users"], found["sessions_started"], found["bounce_rate"]) == (2, 1, 0)


def test_a_returning_user_may_have_been_away_for_long(conn: psycopg.Connection[Any]) -> None:
    fill(conn, [Event(FIRST + day * DAY, f"s{day}", "u", "LOGIN") for day in (0, 30)])
    assert rows(conn, "SELECT day, new_users, returning_users FROM analytics.new_users_by_day ORDER BY 1") == [
        (FIRST, 1, 0),
        (FIRST + 30 * DAY, 0, 1),
    ]


def test_windows_without_views_or_sessions(conn: psycopg.Connection[Any]) -> None:
    fill(conn, [Event(FIRST, "s", "u", "LOGIN"), Event(FIRST + HOUR, "s", "u", "LOGIN")])
    assert rows(
        conn,
        "SELECT sessions_started, bounce_rate, average_session_seconds, pages_per_session"
        " FROM analytics.engagement_by_window WHERE window_minutes = 60 ORDER BY window_start",
    ) == [(1, 0, 3600, 0), (0, None, None, None)]
    assert rows(conn, "SELECT * FROM analytics.pages_by_hour") == []


def test_a_day_is_complete_once_it_is_over_and_all_its_windows_are(conn: psycopg.Connection[Any]) -> None:
    complete = "SELECT complete FROM analytics.traffic_by_day WHERE day = %s"
    last = FIRST + DAY - HOUR
    assert rows(conn, "SELECT * FROM analytics.completeness") == [(None,)]
    assert rows(conn, "SELECT * FROM analytics.last_24_hours") == []
    fill(conn, [Event(FIRST, "s", "u", "LOGIN")])
    assert rows(conn, complete, FIRST) == [(False,)]  # the rest of the day is still to come
    fill(conn, [Event(last, "t", "u", "LOGIN")], status="provisional")
    assert rows(conn, complete, FIRST) == [(False,)]
    conn.execute("UPDATE analytics.traffic_by_window SET status = 'complete'")
    assert rows(conn, complete, FIRST) == [(True,)]
    assert rows(conn, "SELECT DISTINCT until FROM analytics.last_24_hours") == [(FIRST + DAY,)]
    assert rows(
        conn, "SELECT metric, last_24h, day_before, change, change_percent FROM analytics.last_24_hours"
    ) == rows(conn, "SELECT * FROM analytics.compare_day(%s)", FIRST + DAY)
    fill(conn, [Event(last - HOUR, "v", "v", "LOGIN")], status="provisional")  # came late
    assert rows(conn, complete, FIRST) == [(False,)]


def test_an_idle_day_becomes_complete_by_the_watermark(conn: psycopg.Connection[Any]) -> None:
    complete = "SELECT complete FROM analytics.traffic_by_day WHERE day = %s"
    fill(conn, [Event(FIRST, "s", "u", "LOGIN")])
    midnight = FIRST + DAY
    observe = (
        "INSERT INTO ledger.partitions (topic, topic_id, partition, first_offset, next_offset, log_start_offset,"
        " log_end_offset, settled, observed_at) VALUES ('t', 't', 0, 0, 0, 0, 0, true, %s)"
        " ON CONFLICT (topic_id, partition) DO UPDATE SET observed_at = excluded.observed_at"
    )
    conn.execute(observe, [midnight + timedelta(seconds=119)])
    assert rows(conn, complete, FIRST) == [(False,)]
    conn.execute(observe, [midnight + timedelta(seconds=120)])
    assert rows(conn, complete, FIRST) == [(True,)]
    assert rows(conn, "SELECT * FROM analytics.completeness") == [(midnight,)]


def test_every_column_of_the_views_is_explained(shared: Pipeline) -> None:
    silent = shared.conn.execute(
        "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'analytics'::regnamespace AND c.relkind = 'v' AND a.attnum > 0"
        " AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)"
    ).fetchall()
    assert silent == []
    assert shared.one("SELECT obj_description('analytics.compare_day'::regproc)")


def test_the_reader_of_dashboards_reads_every_view(pipeline: Pipeline, own: psycopg.Connection[Any]) -> None:
    fill(own, [Event(FIRST, "s", "u", "PAGE_VIEW"), Event(FIRST, "s", "u", "PURCHASE")])
    views = [name for (name,) in own.execute("SELECT viewname FROM pg_views WHERE schemaname = 'analytics'")]
    password = (pipeline.stack.secrets / "grafana_reader").read_text(encoding="utf-8")
    with psycopg.connect(
        f"postgresql://grafana_reader:{password}@127.0.0.1:{pipeline.stack.ports.postgres}/{pipeline.database}"
    ) as reader:
        for view in views:
            assert rows(reader, f"SELECT * FROM analytics.{view}"), view
        assert rows(reader, "SELECT * FROM analytics.compare_day(%s)", FIRST)


def test_the_documented_queries_run(shared: Pipeline) -> None:
    text = (REPOSITORY / "docs" / "analyst-queries.md").read_text(encoding="utf-8")
    queries = re.findall("```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) > 7
    for query in queries:
        shared.conn.execute(query)


MONTH = """
INSERT INTO analytics.traffic_by_window (window_start, window_minutes, events, page_views, add_to_carts, purchases,
    logins, logouts, users, sessions, status, batch_id)
SELECT at, minutes, 1, 1, 0, 0, 0, 0, 1, 1, 'complete', 1 FROM month_windows;
INSERT INTO analytics.funnel_by_window SELECT at, minutes, 1, 0, 0 FROM month_windows;
INSERT INTO analytics.revenue_by_window SELECT at, minutes, c, 1, 1 FROM month_windows, unnest('{CHF,EUR}'::text[]) c;
INSERT INTO analytics.pages_by_window
SELECT at, minutes, '/' || n, 1, 1, 1 FROM month_windows, generate_series(1, 10) n;
INSERT INTO analytics.audience_by_window
SELECT at, minutes, d, 'v' || n, 1, 1, 1, 0
FROM month_windows, unnest('{device,region,referrer}'::text[]) d, generate_series(1, 4) n;
INSERT INTO analytics.sessions_by_window
SELECT at, minutes, d, CASE WHEN d = 'all' THEN '' ELSE 'v' || n END, 1, 0, 0, 0, 1, 1
FROM month_windows, unnest('{all,device,region,entry_page,exit_page}'::text[]) d, generate_series(1, 3) n
WHERE d <> 'all' OR n = 1;
INSERT INTO analytics.users_by_hour SELECT at, 'u' || n FROM month_windows, generate_series(1, 60) n WHERE minutes = 60;
INSERT INTO analytics.sessions
SELECT 's' || n || '-' || extract(epoch FROM at), at, at, 1, 1, 0, 0, 'u' || n, 'd', 'r', '/', '/', true
FROM month_windows, generate_series(1, 10) n WHERE minutes = 5;
ANALYZE;
"""

PANELS = (
    "SELECT window_start, events FROM analytics.traffic_by_window WHERE window_minutes = 5 AND {window}",
    "SELECT page, sum(views) FROM analytics.pages_by_window WHERE window_minutes = 60 AND {window} GROUP BY 1",
    "SELECT * FROM analytics.audience_by_window WHERE window_minutes = 5 AND dimension = 'device' AND {window}",
    "SELECT * FROM analytics.funnel_by_window WHERE window_minutes = 5 AND {window}",
    "SELECT currency, sum(amount) FROM analytics.revenue_by_window WHERE window_minutes = 60 AND {window} GROUP BY 1",
    "SELECT * FROM analytics.sessions_by_window WHERE window_minutes = 60 AND dimension = 'entry_page' AND {window}",
    "SELECT count(*), avg(page_views) FROM analytics.sessions WHERE started_at >= {since} AND started_at < {until}",
    "SELECT * FROM analytics.sessions WHERE user_id = 'u7' AND started_at >= {since} AND started_at < {until}",
    "SELECT count(DISTINCT user_id) FROM analytics.users_by_hour WHERE hour >= {since} AND hour < {until}",
    "SELECT * FROM analytics.engagement_by_window WHERE window_minutes = 5 AND {window}",
    "SELECT * FROM analytics.engagement_by_window WHERE window_minutes = 60 AND {window}",
    "SELECT * FROM analytics.conversion_by_window WHERE window_minutes = 60 AND dimension = 'device' AND {window}",
    "SELECT page, sum(views) FROM analytics.pages_by_hour WHERE hour >= {since} AND hour < {until} GROUP BY 1",
    "SELECT * FROM analytics.traffic_by_day WHERE day >= {since} AND day < {until}",
    "SELECT * FROM analytics.revenue_by_day WHERE day >= {since} AND day < {until}",
    "SELECT * FROM analytics.new_users_by_day WHERE day >= {since} AND day < {until}",
    "SELECT * FROM analytics.last_24_hours",
)


def scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads as a whole."""
    own = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return own.union(*map(scanned, plan.get("Plans", [])))


def test_a_panel_of_24_hours_reads_no_table_of_a_month_as_a_whole(own: psycopg.Connection[Any]) -> None:
    own.execute(
        "CREATE TEMP TABLE month_windows AS SELECT at, minutes::smallint FROM unnest('{5,60}'::int[]) minutes,"
        " generate_series(%s::timestamptz, %s, make_interval(mins => minutes)) at",
        [FIRST, FIRST + 30 * DAY - timedelta(minutes=1)],
    )
    own.execute(MONTH.encode())  # several statements
    until = FIRST + 30 * DAY
    literals = {"since": f"'{until - DAY}'::timestamptz", "until": f"'{until}'::timestamptz"}
    literals["window"] = "window_start >= {since} AND window_start < {until}".format(**literals)
    filled = "SELECT relname FROM pg_class WHERE relnamespace = 'analytics'::regnamespace AND relkind = 'r'"
    tables = {name for (name,) in own.execute(f"{filled} AND reltuples > 0")}
    whole = {}
    for panel in PANELS:
        query = panel.format(**literals)
        with own.transaction():  # counts what functions read too
            found = rows(own, query)
            counted = {
                name
                for (name,) in rows(
                    own,
                    "SELECT relname FROM pg_stat_xact_user_tables WHERE schemaname = 'analytics' AND seq_scan > 0",
                )
            }
        ((plan,),) = own.execute(f"EXPLAIN (FORMAT JSON) {query}").fetchall()
        whole[panel] = (scanned(plan[0]["Plan"]) | counted) & tables
        assert found, panel
    assert {panel: names for panel, names in whole.items() if names} == {}
