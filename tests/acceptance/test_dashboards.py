"""Every panel of Grafana's dashboards shows something once data went through the stack, asked as Grafana asks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import psycopg
import pytest
from kafka import KafkaProducer

from infra.local import credentials
from infra.local.airflow_api import AirflowApi
from infra.local.demo import make_burst, wait_until_published
from infra.local.stack import TOPIC, Stack
from tests.kit.grafana_files import BOARDS, STEP, Asked, all_asked
from tests.kit.records import HISTORIC

pytestmark = pytest.mark.needs("prometheus")

WITHIN_SECONDS = 300
MAY_BE_EMPTY = {
    "Declared losses": "nothing was lost",
    "Checks that were not ok": "all components are well",
    "Failed tasks in the last hour": "no task failed, so there is no series",
}


@pytest.fixture(scope="module")
def fed(stack: Stack, template: str) -> Iterator[Stack]:  # noqa: ARG001 - the template is copied before data come
    """The stack with its scheduled DAGs running, after bursts, rejected records, and old ones of the hours before."""
    with AirflowApi(stack) as api:
        dags = api.call("GET", "/dags")["dags"]
        scheduled = [str(dag["dag_id"]) for dag in dags if dag["timetable_summary"]]
        for dag_id in scheduled:
            api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        send_old_and_broken(stack)
        with psycopg.connect(credentials.reader_url(stack), autocommit=True) as conn:
            for _ in range(2):  # a rate needs a change after the first scrape
                wait_until_published(stack, conn, make_burst(stack, events=400))
        for dag_id in scheduled:
            api.wait_for_run(dag_id, api.trigger(dag_id))
        yield stack
        for dag_id in scheduled:
            api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": True})


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
    deadline = time.monotonic() + WITHIN_SECONDS
    while empty := [one.name for one in all_asked() if one.panel not in MAY_BE_EMPTY and not ask(one)]:
        if time.monotonic() > deadline:
            pytest.fail(f"Nothing to show after {WITHIN_SECONDS} s in:\n" + "\n".join(empty))
        time.sleep(STEP)


def test_what_may_be_empty_is_asked_without_an_error(ask: Callable[[Asked], bool]) -> None:
    found = [one for one in all_asked() if one.panel in MAY_BE_EMPTY]
    assert {one.panel for one in found} == set(MAY_BE_EMPTY)
    for one in found:
        ask(one)
    assert len(BOARDS) == 4
