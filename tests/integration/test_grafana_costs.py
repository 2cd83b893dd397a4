"""What Grafana asks of rejected records reads few of them, however many are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from infra.local.stack import Stack
from tests.kit.grafana_files import all_asked, rules
from tests.kit.pipeline import Pipeline

# A batch each minute until now; each fourth keeps 20 samples of each of 3 reasons.
HISTORY = """
SET session_replication_role = replica;
INSERT INTO ledger.batches (state, planned, landed, absent, lost, accepted, duplicate, late, rejected, settings,
    published_at, dag_run_id)
SELECT 'published', 60, 60, 0, 0, 60 - bad, 0, 0, bad, '{}', now() - (5000 - n) * interval '1 minute', 'run'
FROM generate_series(1, 5000) n, LATERAL (SELECT CASE WHEN n % 4 = 0 THEN 60 ELSE 0 END AS bad) b ORDER BY n;
INSERT INTO ledger.rejected_counts
SELECT batch_id, reason, 20 FROM ledger.batches, unnest(ARRAY['not_json', 'too_large', 'wrong_type']) reason
WHERE rejected > 0;
INSERT INTO ledger.rejections
SELECT 'id', 0, batch_id * 1000 + row_number() OVER (PARTITION BY batch_id), batch_id, now(), reason, NULL,
       '{"producerId": "lambda-7", "page": "' || repeat('x', 200) || '"}'
FROM ledger.rejected_counts, generate_series(1, records);
"""
Read = Callable[[str], dict[str, float]]


@pytest.fixture(scope="module")
def read(services: Stack, template: str) -> Iterator[Read]:
    """How many rows a query reads of each table, kept by its filters or not, and how many rows it masks."""
    pipeline = Pipeline.new(services, template)
    with pipeline.superuser() as conn:
        conn.execute(HISTORY)
        conn.execute("VACUUM ANALYZE")
    password = (pipeline.stack.secrets / "grafana_reader").read_text(encoding="utf-8")
    with psycopg.connect(pipeline.dsn, user="grafana_reader", password=password) as reader:

        def explain(query: str) -> dict[str, float]:
            ((explained,),) = reader.execute(f"EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) {query}".encode()).fetchall()
            found: dict[str, float] = {"batches": 0, "rejections": 0, "masked": 0}
            for node in nodes(explained[0]["Plan"]):
                rows = node["Actual Loops"] * (
                    node["Actual Rows"]
                    + node.get("Rows Removed by Filter", 0)
                    + node.get("Rows Removed by Index Recheck", 0)
                )
                if (table := node.get("Relation Name")) in found:
                    found[table] += rows
                if any("regexp_replace" in column for column in node.get("Output", ())):
                    found["masked"] = max(found["masked"], rows)
            return found

        yield explain
    pipeline.drop()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def of_the_board(panel: str) -> str:
    """The query of a panel for the last 30 days."""
    (asked,) = (one for one in all_asked() if one.panel == panel)
    return replace(asked, since=asked.until - timedelta(days=30)).text


def test_rejected_records_are_chosen_before_they_are_masked(read: Read) -> None:
    found = read(of_the_board("Rejected records"))
    assert found["batches"] <= 500
    assert found["rejections"] <= 50 * 3 * 5 + 50
    assert found["masked"] == 50


def test_producers_are_looked_for_in_the_newest_batches_with_rejected_records(read: Read) -> None:
    found = read(of_the_board("Rejected by producer"))
    assert found["batches"] <= 500 + 50
    assert found["rejections"] == 50 * 60


def test_the_alert_looks_for_producers_in_batches_of_the_last_hour(read: Read) -> None:
    found = read(rules()["ProducerRejected"]["data"][0]["model"]["rawSql"])
    assert found["batches"] <= 500 + 60
    assert found["rejections"] <= 15 * 60
