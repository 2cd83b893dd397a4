"""The files that Grafana is provisioned with: up to date, complete, and without a secret."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from clickstream.links import DASHBOARD
from infra.monitoring.grafana.files import generate
from tests.kit.grafana_files import BOARDS, PROVISIONING, all_asked, load, rules

REPOSITORY = Path(__file__).parents[3]
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
PANELS_OF_GRAFANA = {"row", "stat", "timeseries", "table", "bargauge", "state-timeline"}  # of its core, that are used
UIDS = {
    "clickstream-pipeline-health": "Pipeline health",
    "clickstream-analytics": "Clickstream analytics",
    "clickstream-user-behaviour": "User behaviour",
    "clickstream-system": "System",
}


def board(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def every(name: str, value: Any) -> list[Any]:
    """All values of a key, however deep."""
    if isinstance(value, dict):
        return [v for k, v in value.items() if k == name] + [f for v in value.values() for f in every(name, v)]
    return [found for v in value for found in every(name, v)] if isinstance(value, list) else []


@pytest.fixture(params=BOARDS, ids=lambda path: path.stem)
def one(request: pytest.FixtureRequest) -> dict[str, Any]:
    return board(request.param)


def test_the_generated_files_are_the_committed_ones() -> None:
    made = generate()
    generated = {PROVISIONING / name for name in made}
    assert set(BOARDS) | {PROVISIONING / "alerting" / "rules.yaml"} == generated
    drifted = [name for name, text in made.items() if (PROVISIONING / name).read_bytes() != text.encode()]
    assert not drifted, f"{drifted} differ from what infra/monitoring/grafana makes: run `make dashboards` and commit."


def test_the_uids_that_other_pages_link_to_stay() -> None:
    assert {made["uid"]: made["title"] for made in map(board, BOARDS)} == UIDS
    assert [path.stem for path in BOARDS] == sorted(UIDS)


def test_every_datasource_is_provisioned_under_its_uid(one: dict[str, Any]) -> None:
    sources = load(PROVISIONING / "datasources" / "clickstream.yaml")["datasources"]
    known = {source["uid"]: source["type"] for source in sources}
    used = every("datasource", one)
    assert used
    assert {source["uid"]: source["type"] for source in used}.items() <= known.items()
    assert {query["datasourceUid"] for rule in rules().values() for query in rule["data"]} <= {*known, "__expr__"}


def test_panels_are_of_grafana_itself_numbered_described_and_do_not_overlap(one: dict[str, Any]) -> None:
    panels = one["panels"]
    assert {panel["type"] for panel in panels} <= PANELS_OF_GRAFANA
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in cells, f"{panel['title']} lies on {cells.get(cell)}"
            cells[cell] = panel["title"]
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"].endswith(".")
            assert panel["targets"]
    assert one["timezone"] == "utc"


def test_charts_have_units_and_legends_and_numbers_a_colour_and_a_word_for_no_data(one: dict[str, Any]) -> None:
    for panel in one["panels"]:
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if panel["type"] in {"timeseries", "stat", "bargauge"}:
            assert defaults["unit"], panel["title"]
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"]
        if panel["type"] == "stat":
            assert defaults["noValue"] == "unknown"
            assert defaults["thresholds"]["steps"], panel["title"]


def test_results_are_asked_within_the_chosen_range() -> None:
    whatever_range = {  # said in the description of each
        "Complete until", "The last 24 complete hours against the 24 before", "New users, newest day",
        "The ledger's equations, newest audit", "Components, newest check",
    }  # fmt: skip
    for asked in all_asked():
        text = asked.target.get("rawSql", "$__timeFilter")
        assert "$__time" in text or asked.panel in whatever_range, asked.name


def test_every_dashboard_leads_to_the_runs_in_airflow() -> None:
    for path in BOARDS:
        made = board(path)
        assert [one["name"] for one in made["templating"]["list"]][-1] == "airflow"
        assert "${airflow}" in {link.get("url") for link in made["links"]}
    links = {link["url"] for found in every("value", board(BOARDS[1])) if isinstance(found, list) for link in found
             if isinstance(link, dict) and "url" in link}  # fmt: skip
    assert links >= {
        f"${{airflow}}/dags/{dag_id}/runs/${{__value.raw}}"
        for dag_id in ("drain_clickstream", "aggregate_clickstream", "check_health")
    }


def test_links_from_airflow_lead_to_a_dashboard_that_is_provisioned() -> None:
    page = REPOSITORY / "plugins" / "clickstream" / "web" / "static" / "health.js"
    led_to = {DASHBOARD, *re.findall(r"/d/([a-z-]+)", page.read_text(encoding="utf-8"))}
    assert led_to <= {board(path)["uid"] for path in BOARDS}


def compared(rule: str) -> float:
    """The number with which a rule of Prometheus compares."""
    files = [load(path) for path in (REPOSITORY / "infra" / "monitoring" / "rules").glob("*.yml")]
    (expression,) = (
        one["expr"]
        for file in files
        for group in file["groups"]
        for one in group["rules"]
        if rule in {one.get("alert"), one.get("record")}
    )
    (number,) = re.findall(r"[<>] (?:bool )?([\d.]+(?: \* [\d.]+)*)", expression)
    return math.prod(float(factor) for factor in number.split(" * "))


@pytest.mark.parametrize(
    ("title", "rule"),
    [
        ("Fresh: age of the results", "pipeline:freshness_violated:bool"),
        ("Age of the results", "pipeline:freshness_violated:bool"),
        ("Time until Kafka deletes", "RetentionHeadroomLow"),
        ("Time until Kafka deletes, by partition", "RetentionHeadroomLow"),
        ("How long a batch takes, 95th percentile by stage", "BatchSlow"),
        ("Rejected, share of the last hour", "RejectRatioHigh"),
        ("Least disk left", "DiskFilling"),
        ("Disk free", "DiskFilling"),
    ],
)
def test_a_panel_turns_red_where_the_alert_of_prometheus_fires(title: str, rule: str) -> None:
    (panel,) = (panel for path in BOARDS for panel in board(path)["panels"] if panel["title"] == title)
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    red = [step["color"] for step in steps].index("red")
    assert steps[red or 1]["value"] == compared(rule)


@pytest.mark.parametrize("name", rules())
def test_every_rule_has_a_place_labels_and_a_runbook(name: str) -> None:
    rule = rules()[name]
    assert (rule["folderUID"], rule["ruleGroup"]) == ("clickstream-alerts", "clickstream-results")
    assert rule["labels"].pop("severity") in {"page", "ticket"}
    component = "producers" if name == "ProducerRejected" else "results"
    assert rule["labels"] == {"owner": "grafana", "component": component}
    assert rule["annotations"]["runbook_url"] == f"http://127.0.0.1:9090/user/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Symptom", "First query", "Cause", "Remedy"]


def test_secrets_and_addresses_come_from_the_environment() -> None:
    (postgres,) = (
        source
        for source in load(PROVISIONING / "datasources" / "clickstream.yaml")["datasources"]
        if source["uid"] == "clickstream-postgresql"
    )
    assert postgres["user"] == "grafana_reader"
    (receiver,) = load(PROVISIONING / "alerting" / "contact-points.yaml")["contactPoints"]
    given = [postgres["secureJsonData"]["password"], postgres["url"], receiver["receivers"][0]["settings"]["addresses"]]
    assert all(re.fullmatch(r"\$__(env|file)\{[^}]+\}", text) for text in given), given


def test_every_receiver_of_the_policies_is_a_contact_point() -> None:
    points = {one["name"] for one in load(PROVISIONING / "alerting" / "contact-points.yaml")["contactPoints"]}
    policies = load(PROVISIONING / "alerting" / "policies.yaml")
    assert set(every("receiver", policies)) <= points
