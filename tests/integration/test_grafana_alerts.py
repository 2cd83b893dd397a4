"""Each Grafana-managed alert fires on data that deserve it and is silent on healthy ones, read by grafana_reader."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from infra.bootstrap.roles import READER
from tests.kit.grafana_files import rules
from tests.kit.pipeline import Pipeline
from tests.kit.rollback import RolledBack

Fires = Callable[..., list[dict[str, Any]]]
COMPARE = {"lt": operator.lt, "gt": operator.gt}
DEVICES = {"desktop": 600, "mobile": 1400}
PAGES = {"/": 1200, "/cart": 400}
LAST = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)


@pytest.fixture
def pipeline(rolled_back: RolledBack) -> RolledBack:
    return rolled_back


@pytest.fixture
def fires(pipeline: RolledBack) -> Fires:
    """The labels and value of each row for which a rule fires, as Grafana would find them; also without a guard."""

    def evaluate(name: str, *, without: str = "") -> list[dict[str, Any]]:
        with pipeline.acting_as(READER) as conn, conn.cursor(row_factory=dict_row) as cursor:
            return firing(cursor, name, without=without)

    return evaluate


def firing(cursor: psycopg.Cursor[dict[str, Any]], name: str, *, without: str = "") -> list[dict[str, Any]]:
    measure, compare = rules()[name]["data"]
    (condition,) = compare["model"]["conditions"]
    assert compare["model"]["expression"] == measure["refId"]
    passes = COMPARE[condition["evaluator"]["type"]]
    query = measure["model"]["rawSql"]
    assert without in query
    found = cursor.execute(query.replace(without, "")).fetchall()
    numbers = [[value for value in row.values() if not isinstance(value, str)] for row in found]
    assert all(len(row) == 1 and isinstance(row[0], float) for row in numbers), "one number, all else labels"
    return [
        row for row, (value,) in zip(found, numbers, strict=True) if passes(value, *condition["evaluator"]["params"])
    ]


def hour(
    pipeline: Pipeline,
    days_ago: int,
    *,
    purchases: int = 40,
    audience: dict[str, int] | None = None,
    pages: dict[str, int] | None = None,
) -> None:
    """Publish the hour of LAST so many days before it, by hand and complete; carts are what makes up the events."""
    events, views = audience or DEVICES, pages or PAGES
    of_all, viewed = sum(events.values()), sum(views.values())
    start = LAST - timedelta(days=days_ago)
    pipeline.conn.execute(
        "INSERT INTO analytics.traffic_by_window (window_start, window_minutes, events, page_views, add_to_carts,"
        " purchases, logins, logouts, users, sessions, status, batch_id)"
        " VALUES (%s, 60, %s, %s, %s, %s, 0, 0, 9, 9, 'complete', 1)",
        (start, of_all, viewed, of_all - viewed - purchases, purchases),
    )
    with pipeline.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO analytics.audience_by_window VALUES (%s, 60, 'device', %s, %s, 1, 1, 0)",
            [(start, value, number) for value, number in events.items()],
        )
        cursor.executemany(
            "INSERT INTO analytics.pages_by_window VALUES (%s, 60, %s, %s, 1, 1)",
            [(start, page, number) for page, number in views.items()],
        )


def week(pipeline: Pipeline) -> None:
    for days_ago in range(1, 8):
        hour(pipeline, days_ago)


GOES_ON = {
    "AudienceCollapses": "\n  AND t.events - coalesce(v.events, 0) >= usual_of.rest / 2",
    "PageCollapses": "\n  AND t.page_views - coalesce(v.views, 0) >= usual_of.rest / 2",
}
RESULTS = ("PurchasesVanish", "AudienceCollapses", "PageCollapses")
SILENCE: dict[str, list[dict[str, Any]]] = {name: [] for name in RESULTS}


def test_nothing_fires_without_data(shared: Pipeline) -> None:
    password = (shared.stack.secrets / READER).read_text(encoding="utf-8")
    with psycopg.connect(shared.dsn, user=READER, password=password, row_factory=dict_row) as conn:
        assert {name: firing(conn.cursor(), name) for name in rules()} == {name: [] for name in rules()}


def test_nothing_fires_on_an_ordinary_hour(pipeline: Pipeline, fires: Fires) -> None:
    week(pipeline)
    hour(pipeline, 0, purchases=30, audience={"desktop": 400, "mobile": 1100}, pages={"/": 900, "/cart": 300})
    assert {name: fires(name) for name in RESULTS} == SILENCE


def test_vanished_purchases_fire(pipeline: Pipeline, fires: Fires) -> None:
    week(pipeline)
    hour(pipeline, 0, purchases=5)
    assert fires("PurchasesVanish") == [{"share_of_usual": 0.125}]


def test_an_hour_without_any_event_fires_for_purchases_alone(pipeline: Pipeline, fires: Fires) -> None:
    week(pipeline)
    pipeline.conn.execute(  # all that the log holds is landed and published, until after the hour
        "INSERT INTO ledger.partitions (topic, topic_id, partition, first_offset, next_offset, log_start_offset,"
        " log_end_offset, settled, observed_at) VALUES ('topic', 'id', 0, 0, 0, 0, 0, true, %s)",
        (LAST + timedelta(minutes=62),),
    )
    assert fires("PurchasesVanish") == [{"share_of_usual": 0.0}]
    assert fires("AudienceCollapses") == fires("PageCollapses") == []


def test_a_fall_of_all_traffic_is_no_collapse_of_its_parts(pipeline: Pipeline, fires: Fires) -> None:
    week(pipeline)
    hour(pipeline, 0, audience={"desktop": 60, "mobile": 140}, pages={"/": 120, "/cart": 40})
    for name, goes_on in GOES_ON.items():
        assert fires(name) == []
        assert len(fires(name, without=goes_on)) == 2


def test_what_is_nearly_all_of_the_traffic_has_no_rest_to_compare_with(pipeline: Pipeline, fires: Fires) -> None:
    for days_ago in range(1, 8):
        hour(pipeline, days_ago, audience={"desktop": 1981, "mobile": 19}, pages={"/": 1581, "/cart": 19})
    hour(pipeline, 0, audience={"desktop": 190, "mobile": 10}, pages={"/": 150, "/cart": 10})
    for name in GOES_ON:
        assert fires(name) == []
        assert fires(name, without=" AND usual_of.rest >= 20")


def test_few_purchases_or_few_days_to_compare_with_stay_silent(pipeline: Pipeline, fires: Fires) -> None:
    hour(pipeline, 1)
    hour(pipeline, 2)
    hour(pipeline, 0, purchases=0, audience={"desktop": 1000}, pages={"/": 1000})
    assert {name: fires(name) for name in RESULTS} == SILENCE
    assert all(fires(name, without="usual.days >= 3 AND ") for name in RESULTS)
    for days_ago in (3, 4, 5, 6, 7):
        hour(pipeline, days_ago, purchases=19, audience={"desktop": 1000, "mobile": 99}, pages={"/": 900, "/cart": 99})
    assert {name: fires(name) for name in RESULTS} == SILENCE
    assert fires("PurchasesVanish", without=" AND usual.purchases >= 20")
    assert fires("AudienceCollapses", without=" AND usual_of.counted >= 100")
    assert fires("PageCollapses", without=" AND usual_of.counted >= 100")


@pytest.mark.parametrize("left", [{"desktop": 600}, {"desktop": 600, "mobile": 279}])
def test_an_audience_that_collapses_fires(pipeline: Pipeline, fires: Fires, left: dict[str, int]) -> None:
    week(pipeline)
    hour(pipeline, 0, audience=left, pages={"/": 360, "/cart": 120})
    share = left.get("mobile", 0) / 1400
    assert fires("AudienceCollapses") == [{"dimension": "device", "value": "mobile", "share_of_usual": share}]
    assert fires("PageCollapses") == []


@pytest.mark.parametrize(
    ("left", "page"), [({"/": 1200, "/cart": 79}, "/cart"), ({"/cart": 400}, "/"), ({"/": 239, "/cart": 400}, "/")]
)
def test_a_page_that_collapses_fires(pipeline: Pipeline, fires: Fires, left: dict[str, int], page: str) -> None:
    week(pipeline)
    hour(pipeline, 0, audience={"desktop": 240, "mobile": 560 + left.get("/", 0)}, pages=left)
    assert fires("PageCollapses") == [{"page": page, "share_of_usual": left.get(page, 0) / PAGES[page]}]
    assert fires("AudienceCollapses") == []


def test_carts_and_purchases_do_not_stand_for_the_views_of_other_pages(pipeline: Pipeline, fires: Fires) -> None:
    for days_ago in range(1, 8):
        hour(pipeline, days_ago, pages={"/": 400, "/cart": 400})
    hour(pipeline, 0, audience={"desktop": 400, "mobile": 900}, pages={"/": 40, "/cart": 40})
    assert fires("PageCollapses") == []


def test_what_comes_only_on_some_days_is_not_missed_on_others(pipeline: Pipeline, fires: Fires) -> None:
    for days_ago in range(1, 8):
        campaign = {"newsletter": 500} if days_ago % 3 == 0 else {}
        hour(pipeline, days_ago, audience={"desktop": 1000} | campaign, pages={"/": 1000} | campaign)
    hour(pipeline, 0, audience={"desktop": 1000}, pages={"/": 1000})
    assert fires("AudienceCollapses") == fires("PageCollapses") == []


def rejected(pipeline: Pipeline, *excerpts: str | None, hours_ago: float = 0) -> None:
    """Publish a batch whose records are all rejected."""
    with pipeline.conn.transaction():
        row = pipeline.conn.execute(
            "INSERT INTO ledger.batches (state, planned, landed, absent, lost, accepted, duplicate, late, rejected,"
            " settings, published_at, dag_run_id) VALUES ('published', %(n)s, %(n)s, 0, 0, 0, 0, 0, %(n)s, %(s)s,"
            " now() - %(age)s, 'manual__test') RETURNING batch_id",
            {"n": len(excerpts), "s": Jsonb({}), "age": timedelta(hours=hours_ago)},
        ).fetchone()
        assert row
        pipeline.conn.execute(
            "INSERT INTO ledger.attempts (batch_id, attempt, state, dag_run_id) VALUES (%s, 0, 'committed', '')", row
        )
        with pipeline.conn.cursor() as cursor:
            cursor.executemany(
                'INSERT INTO ledger.rejections (topic_id, partition, "offset", batch_id, record_at, reason, excerpt)'
                " VALUES ('id', 0, %s, %s, now(), 'not_json', %s)",
                [(1000 * row[0] + number, row[0], excerpt) for number, excerpt in enumerate(excerpts)],
            )


def test_a_producer_whose_records_are_rejected_fires_and_the_others_do_not(pipeline: Pipeline, fires: Fires) -> None:
    bad, good = '{"eventId": "x", "producerId" : "lambda-7", "sequence": 1', '{"producerId":"lambda-1"}'
    rejected(pipeline, *[bad] * 60, *[good] * 40)
    assert fires("ProducerRejected") == []
    rejected(pipeline, *[bad] * 41)
    assert fires("ProducerRejected") == [{"producer_id": "lambda-7", "rejected": 101.0}]


def test_rejects_of_long_ago_or_of_nobody_stay_silent(pipeline: Pipeline, fires: Fires) -> None:
    rejected(pipeline, *['{"producerId":"lambda-7"}'] * 200, hours_ago=1.5)
    assert fires("ProducerRejected", without="WHERE b.published_at > now() - interval '1 hour'")
    rejected(pipeline, *["plain text", None, '{"producerId":"a person, with spaces"}', '{"producerId":7}'] * 100)
    assert fires("ProducerRejected") == []
