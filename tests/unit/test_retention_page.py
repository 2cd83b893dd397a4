"""docs/retention.md has every period, with the default and the rules that are in force."""

from __future__ import annotations

import re
from pathlib import Path

from clickstream.retention import RULES, Retention

PAGE = Path(__file__).parents[2] / "docs" / "retention.md"
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (\d+) \| [^|]+ \|([^|]*)\| [^|]+ \|$", re.MULTILINE)


def test_its_table_has_every_default_and_no_other() -> None:
    defaults = {name: int(default) for name, default, _ in ROW.findall(PAGE.read_text())}
    assert defaults == {name.upper(): field.default for name, field in Retention.model_fields.items()}


def test_its_table_has_every_rule() -> None:
    shown = {
        (name, least)
        for name, _, rules in ROW.findall(PAGE.read_text())
        for least in re.findall(r"`([A-Z0-9_]+)`", rules)
    }
    between = {("EVENTS_DAYS", "KAFKA_DAYS"), ("EVENTS_DAYS", "ALLOWED_LATENESS_HOURS")}
    assert shown == {(rule.longer.upper(), rule.shorter.upper()) for rule in RULES} | between
