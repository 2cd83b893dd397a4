"""What Grafana is provisioned with, as Grafana reads it, and what it would ask with macros and variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

PROVISIONING = Path(__file__).parents[2] / "infra" / "monitoring" / "grafana" / "provisioning"
BOARDS = sorted((PROVISIONING / "dashboards" / "json").glob("*.json"))
STEP = 15  # seconds, as Prometheus scrapes


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))  # JSON is YAML


def rules() -> dict[str, dict[str, Any]]:
    """The alert rules by title."""
    groups = load(PROVISIONING / "alerting" / "rules.yaml")["groups"]
    return {rule["title"]: rule for group in groups for rule in group["rules"]}


@dataclass(frozen=True)
class Asked:
    """A query of a dashboard, at a moment."""

    board: str
    panel: str
    target: dict[str, Any]
    variables: dict[str, str]
    since: datetime
    until: datetime

    @property
    def name(self) -> str:
        return f"{self.board} / {self.panel} / {self.target['refId']}"

    @property
    def uid(self) -> str:
        return str(self.target["datasource"]["uid"])

    @property
    def text(self) -> str:
        """The query with macros and variables replaced, as Grafana's data source would send it."""
        text = str(self.target.get("rawSql") or self.target["expr"])
        since, until = (f"'{moment.isoformat()}'" for moment in (self.since, self.until))
        text = re.sub(r"\$__timeFilter\(([^)]*)\)", lambda found: f"{found[1]} BETWEEN {since} AND {until}", text)
        seconds = int((self.until - self.since).total_seconds())
        for macro, value in {
            "$__timeFrom()": since,
            "$__timeTo()": until,
            "$__rate_interval": f"{4 * STEP}s",
            "$__interval": f"{STEP}s",
            "$__range": f"{seconds}s",
            **{f"${{{name}}}": value for name, value in self.variables.items()},
        }.items():
            text = text.replace(macro, value)
        assert "$" not in text, f"{self.name}: unknown macro or variable in {text}"
        return text


def asked(path: Path, until: datetime) -> Iterator[Asked]:
    """Every query of a dashboard: of its panels, then of its annotations."""
    board = json.loads(path.read_text(encoding="utf-8"))
    variables = {one["name"]: one["current"]["value"] for one in board["templating"]["list"]}
    hours = int(re.fullmatch(r"now-(\d+)h", board["time"]["from"])[1])  # type: ignore[index]
    since = until - timedelta(hours=hours)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield Asked(board["title"], panel["title"], target, variables, since, until)
    for one in board["annotations"]["list"]:
        target = one["target"] | {"datasource": one["datasource"]}
        yield Asked(board["title"], one["name"], target, variables, since, until)


def all_asked() -> list[Asked]:
    now = datetime.now(UTC)
    return [one for path in BOARDS for one in asked(path, now)]
