"""Prometheus' rules: valid, tested alert by alert by promtool, and each with a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]
MONITORING = REPOSITORY / "infra" / "monitoring"
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
HEADINGS = ["Symptom", "First query", "Cause", "Remedy"]
PAGES = sorted(page.stem for page in RUNBOOKS.glob("*.md") if page.stem != "README")


def rules(kind: str) -> Iterator[dict[str, Any]]:
    for file in sorted((MONITORING / "rules").glob("*.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from (rule for rule in group["rules"] if kind in rule)


ALERTS = {rule["alert"]: rule for rule in rules("alert")}


def promtool(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_to_say_about_the_rules() -> None:
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", *(MONITORING / "rules").glob("*.yml"))
    assert code == 0, said


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("file", sorted((MONITORING / "tests").glob("*.yml")), ids=lambda file: file.stem)
def test_the_tests_of_the_rules_pass(file: Path) -> None:
    code, said = promtool("test", "rules", file)
    assert code == 0, said


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    firing: set[str] = set()
    silent = {"Watchdog"}
    for file in (MONITORING / "tests").glob("*.yml"):
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("alert_rule_test", []):
                (firing if case.get("exp_alerts") else silent).add(case["alertname"])
    assert firing == silent == set(ALERTS)


def never(rule: dict[str, Any]) -> None:
    rule["expr"] = f"({rule['expr']}) and on () vector(1) > 1"


def always(rule: dict[str, Any]) -> None:
    rule["expr"] = "vector(1)"


def later(rule: dict[str, Any]) -> None:
    rule["for"] = f"{minutes(rule) + 2}m"


def at_once(rule: dict[str, Any]) -> None:
    rule["for"] = "0m"


def minutes(rule: dict[str, Any]) -> int:
    return int(rule.get("for", "0m").removesuffix("m"))


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (never, set(ALERTS)),
        (always, set(ALERTS) - {"Watchdog"}),
        (later, set(ALERTS)),
        (at_once, {name for name, rule in ALERTS.items() if minutes(rule)}),
    ],
)
def test_the_tests_notice_each_alert_that_is_changed(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], noticed: set[str]
) -> None:
    shutil.copytree(MONITORING, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "rules").glob("*.yml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        for rule in (rule for group in content["groups"] for rule in group["rules"] if "alert" in rule):
            change(rule)
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
    code, said = promtool("test", "rules", *(tmp_path / "tests").glob("*.yml"))
    assert code != 0
    assert noticed <= set(re.findall(r"alertname: (\w+),", said))


def test_recording_rules_are_named_level_metric_operation() -> None:
    names = [rule["record"] for rule in rules("record")]
    assert names
    assert [name for name in names if not re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", name)] == []


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_who_cares_what_it_means_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert set(rule["labels"]) == {"severity", "owner", "component"}
    assert rule["labels"]["severity"] in ({"none"} if alert == "Watchdog" else {"page", "ticket"})
    assert rule["labels"]["owner"] == "prometheus"
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{{{{ $externalURL }}}}/user/{alert}.md"


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    of_grafana = MONITORING / "grafana" / "provisioning" / "alerting" / "rules.yaml"
    groups = yaml.safe_load(of_grafana.read_text(encoding="utf-8"))["groups"]
    assert set(PAGES) == {*ALERTS, *(rule["title"] for group in groups for rule in group["rules"])}


@pytest.mark.parametrize("page", PAGES)
def test_a_runbook_has_its_four_parts_and_a_query(page: str) -> None:
    text = (RUNBOOKS / f"{page}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {page}\n")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert parts[1::2] == HEADINGS
    assert all(part.strip() for part in parts[2::2])
    assert re.search("```(promql|sql)\n", parts[4])


def test_the_index_lists_each_page_with_the_severity_of_its_alert() -> None:
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| .+ \|$", index, re.MULTILINE)
    assert sorted(name for name, _, _ in listed) == PAGES
    assert all(name == page for name, page, _ in listed)
    severities = {name: severity for name, _, severity in listed}
    assert {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}.items() <= severities.items()
