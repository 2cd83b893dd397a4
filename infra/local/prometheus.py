"""Prometheus, where its binary is installed: scrapes itself and the pipeline's metrics, evaluates the alerts.

It serves their runbooks too, below `/user`, so that an alert's link works wherever its Prometheus can be reached.
"""

import shutil
from pathlib import Path

import httpx
import yaml

from infra.local.credentials import token_file
from infra.local.files import private_folder
from infra.local.ports import LOOPBACK
from infra.local.stack import REPOSITORY, Stack
from infra.local.supervision import SYSTEM_PATH, Program

RULES = REPOSITORY / "infra" / "monitoring" / "rules"
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
RETENTION = "15d"


def find_binary() -> Path | None:
    """Return Prometheus' program, None where it is not installed."""
    found = shutil.which("prometheus", path=SYSTEM_PATH) or shutil.which("prometheus")
    return Path(found) if found else None


def prepare(stack: Stack) -> None:
    """Write the configuration."""
    folder = private_folder(stack.folder / "prometheus")
    own_address = f"{LOOPBACK}:{stack.ports.prometheus}"
    configuration = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [str(RULES / "*.yml")],
        "scrape_configs": [
            {"job_name": "prometheus", "static_configs": [{"targets": [own_address]}]},
            {
                "job_name": "clickstream",
                "metrics_path": "/clickstream/metrics",
                "authorization": {"credentials_file": str(token_file(stack, "metrics_token"))},
                "static_configs": [{"targets": [f"{LOOPBACK}:{stack.ports.airflow}"]}],
            },
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")


def program(stack: Stack, binary: Path) -> Program:
    """Describe Prometheus to the supervisor."""
    folder = stack.folder / "prometheus"
    return Program(
        name="prometheus",
        command=[
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"--web.listen-address={LOOPBACK}:{stack.ports.prometheus}",
            f"--web.external-url={stack.prometheus_url}",
            f"--web.user-assets={RUNBOOKS}",
        ],
    )


def probe(stack: Stack) -> None:
    """Check that Prometheus serves.

    Raises:
        httpx.HTTPError: It does not.
    """
    httpx.get(f"{stack.prometheus_url}/-/ready", timeout=3).raise_for_status()
