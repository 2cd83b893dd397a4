"""The alerts in the real Prometheus, and their runbooks' queries on the real Prometheus and PostgreSQL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from infra.local.stack import Stack
from tests.kit.pipeline import Pipeline
from tests.kit.services import REPOSITORY
from tests.kit.waiting import wait_for

RULES = REPOSITORY / "infra" / "monitoring" / "rules"
RUNBOOKS = sorted(page for page in (REPOSITORY / "docs" / "runbooks").rglob("*.md") if page.stem != "README")


def expressions() -> dict[str, str]:
    """Each rule's expression by its name."""
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in RULES.glob("*.yml")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules}


def ask(stack: Stack, path: str, **parameters: str) -> Any:
    answer = httpx.get(f"{stack.prometheus_url}/api/v1/{path}", params=parameters, timeout=30).json()
    assert answer["status"] == "success", (parameters, answer)
    return answer["data"]


def queries(page: Path, language: str) -> list[str]:
    return re.findall(f"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.needs("prometheus")
def test_every_rule_is_loaded_and_evaluated_and_the_watchdog_fires(stack: Stack) -> None:
    def evaluated() -> list[dict[str, Any]] | None:
        rules = [rule for group in ask(stack, "rules")["groups"] for rule in group["rules"]]
        return None if any(rule["health"] == "unknown" for rule in rules) else rules

    found = wait_for(evaluated, "evaluation of every rule")
    assert {rule["name"]: (rule["health"], rule.get("lastError")) for rule in found} == dict.fromkeys(
        expressions(), ("ok", None)
    )
    assert [rule["state"] for rule in found if rule["name"] == "Watchdog"] == ["firing"]


@pytest.mark.needs("prometheus")
def test_every_metric_that_a_rule_or_a_runbook_names_is_scraped(stack: Stack) -> None:
    texts = [*expressions().values(), *(query for page in RUNBOOKS for query in queries(page, "promql"))]
    named = {
        re.sub("_(bucket|count)$", "", name)
        for text in texts
        for name in re.findall(r"(?<![:\w])(?:clickstream|airflow|exporter|prometheus)_\w+(?![.:\w])", text)
    }
    assert "clickstream_lag_records" in named

    def missing() -> set[str]:
        return named - set(ask(stack, "metadata"))

    wait_for(lambda: not missing(), lambda: f"scrape of {missing()}")


@pytest.mark.needs("prometheus")
def test_the_link_of_an_alert_opens_its_runbook(stack: Stack) -> None:
    def alerts() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = ask(stack, "alerts")["alerts"]
        return found if "Watchdog" in [alert["labels"]["alertname"] for alert in found] else None

    for alert in wait_for(alerts, "Watchdog"):
        page = httpx.get(alert["annotations"]["runbook_url"], timeout=30)
        assert page.status_code == 200
        assert page.text.startswith(f"# {alert['labels']['alertname']}\n")


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_the_promql_of_a_runbook_runs(stack: Stack, page: Path) -> None:
    for query in queries(page, "promql"):
        ask(stack, "query", query=query)


def test_the_sql_of_the_runbooks_runs_for_those_who_only_read(pipeline: Pipeline) -> None:
    password = (pipeline.stack.secrets / "grafana_reader").read_text(encoding="utf-8")
    address = f"127.0.0.1:{pipeline.stack.ports.postgres}/{pipeline.database}"
    found = [query for page in RUNBOOKS for query in queries(page, "sql")]
    assert len(found) > 10
    with psycopg.connect(f"postgresql://grafana_reader:{password}@{address}") as reader:
        for query in found:
            reader.execute(query.encode())
