"""The generated files, as Grafana's provisioning takes them."""

from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import table
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from infra.monitoring.grafana import alerts
from infra.monitoring.grafana.boards import clickstream_analytics, pipeline_health, system, user_behaviour

PROVISIONING = Path(__file__).parent / "provisioning"
BOARDS = (pipeline_health, clickstream_analytics, user_behaviour, system)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML carries no types
    """Writes SQL as a block, to be read line by line."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _built(builder: Builder[Dashboard]) -> Dashboard:
    """Build a dashboard without the SDK's defaults that Grafana's types don't know."""
    board = builder.build()
    for variable in (board.templating and board.templating.list_val) or ():
        variable.auto = variable.auto_min = variable.auto_count = None
    for panel in board.panels or ():
        if isinstance(panel, Panel) and isinstance(panel.options, table.Options):
            panel.options.footer = None
    return board


def generate() -> dict[str, str]:
    """Return the text of each generated file by its path below PROVISIONING."""
    encoder = JSONEncoder(indent=2, ensure_ascii=False)
    boards = [_built(module.make()) for module in BOARDS]
    texts = {f"dashboards/json/{board.uid}.json": encoder.encode(board) + "\n" for board in boards}
    rules = yaml.dump(alerts.provisioned(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return texts | {"alerting/rules.yaml": f"# Written by `make dashboards`.\n{rules}"}
