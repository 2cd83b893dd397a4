"""Every panel of Grafana's dashboards shows something once data went through the stack, asked as Grafana asks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import psycopg
import pytest
from kafka import KafkaProducer
from pyspark.sql import SparkSession

from infra.local import credentials
from infra.local.stack import TOPIC, Stack
from tests.kit.dags import switched_on
from tests.kit.demonstration import Demonstration
from tests.kit.grafana_files import BOARDS, STEP, Asked, all_asked
from tests.kit.pipeline import Pipeline
from tests.kit.records import HISTORIC
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.needs("prometheus")

MAY_BE_EMPTY = {
    "Declared losses": "nothing was lost",
    "Checks that were not ok": "all components are well",
    "Failed tasks in the last hour": "no task failed, so there is no series",
}


@pytest.fixture(scope="module")
def fed(stack: Stack, demonstration: Demonstration, spark: SparkSession) -> Iterator[Stack]:  # noqa: ARG001
    """The stack after its demo, then rejected records and old ones of the hours before, while drains go on."""
    view = Pipeline.of(stack)
    wait_for(lambda: scraped(stack, "clickstream_batches_total"), "scrape")  # a rate needs a change after the first
    send_old_and_broken(stack)
    view.drain_all()
    view.aggregate_all(spark)
    view.close()
    with switched_on(stack, "drain_clickstream"):
        yield stack


def scraped(stack: Stack, metric: str) -> bool:
    answer = httpx.get(f"{stack.prometheus_url}/api/v1/query", params={"query": f"{metric} > 0"}, timeout=30)
    return bool(answer.json()["data"]["result"])


def send_old_and_broken(stack: Stack) -> None:
    producer = KafkaProducer(bootstrap_servers=stack.bootstrap_servers)
    for hours in range(1, 30):
        for number in range(20):
            producer.send(TOPIC, value=old_event(hours, number), headers=list(HISTORIC))
    for _ in range(20):
        producer.send(TOPIC, value=b'{"eventId":"x","producerId":"lambda-7"}')
    producer.close(timeout=30)


def old_event(hours: int, number: int) -> bytes:
    """An event of some hours ago: a session of two views, and each fourth buys."""
    session, step = divmod(number, 2)
    buys = number % 4 == 3
    purchase: dict[str, object] = {"amount": "9.90", "currency": "EUR", "productId": "sku-1"} if buys else {}
    event: dict[str, object] = {
        "schemaVersion": 1, "eventId": str(uuid4()), "eventType": "PURCHASE" if buys else "PAGE_VIEW",
        "eventTime": (datetime.now(UTC) - timedelta(hours=hours, seconds=-step * 30)).isoformat(),
        "userId": f"old-{session}", "sessionId": f"old-{hours}-{session}", "page": "/old", "device": "desktop",
        "region": "eu", "producerId": "archive", "sequence": number, **purchase,
    }  # fmt: skip
    return json.dumps(event).encode()


@pytest.fixture(scope="module")
def ask(fed: Stack) -> Iterator[Callable[[Asked], bool]]:
    """Whether a query returns anything that a panel can show."""
    with (
        psycopg.connect(credentials.reader_url(fed), autocommit=True) as conn,
        httpx.Client(base_url=fed.prometheus_url, timeout=30) as prometheus,
    ):
        assert conn.execute("SELECT current_user").fetchone() == ("grafana_reader",)

        def shows(asked: Asked) -> bool:
            if asked.uid == "clickstream-postgresql":
                found = conn.execute(asked.text.encode()).fetchall()
                return any(value not in (None, "") for row in found for value in row)
            moment = {"time": asked.until.timestamp()}
            span = {"start": asked.since.timestamp(), "end": asked.until.timestamp(), "step": float(STEP)}
            answer = (
                prometheus.get("/api/v1/query", params={"query": asked.text, **moment})
                if asked.target.get("instant")
                else prometheus.get("/api/v1/query_range", params={"query": asked.text, **span})
            )
            assert answer.is_success, f"{asked.name}: {answer.text}"
            series = answer.json()["data"]["result"]
            samples = [sample for one in series for sample in one.get("values") or [one["value"]]]
            return any(not math.isnan(float(value)) for _, value in samples)

        yield shows


def test_every_panel_and_annotation_shows_something(ask: Callable[[Asked], bool]) -> None:
    empty = {one.name for one in all_asked() if one.panel not in MAY_BE_EMPTY}

    def all_show() -> bool:
        empty.difference_update([one.name for one in all_asked() if one.name in empty and ask(one)])
        return not empty

    wait_for(all_show, lambda: "data of " + ", ".join(sorted(empty)), seconds=300)


def test_what_may_be_empty_is_asked_without_an_error(ask: Callable[[Asked], bool]) -> None:
    found = [one for one in all_asked() if one.panel in MAY_BE_EMPTY]
    assert {one.panel for one in found} == set(MAY_BE_EMPTY)
    for one in found:
        ask(one)
    assert len(BOARDS) == 4
