"""Who hears of which alert: every rule against Alertmanager's real configuration, as `start` fills it in."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
import yaml

from infra.local.ports import LOOPBACK, free_ports
from tests.kit.installations import started
from tests.kit.waiting import eventually

MONITORING = Path(__file__).parents[3] / "infra" / "monitoring"
START = MONITORING / "alertmanager" / "start"
ALERTMANAGER = shutil.which("prometheus-alertmanager")
MAIL = {
    "SMTP_SMARTHOST": "mail.example.org:587",
    "SMTP_USERNAME": "pipeline",
    "SMTP_FROM": "pipeline@example.org",
    "ALERT_EMAIL": "you@example.org",
}
pytestmark = pytest.mark.needs("amtool", "prometheus-alertmanager")


def rules() -> dict[str, dict[str, Any]]:
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in (MONITORING / "rules").glob("*.yml")]
    return {
        rule["alert"]: rule["labels"]
        for file in files
        for group in file["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


ALERTS = rules()


def prepared(folder: Path, *, program: str, page_url: str = "", heartbeat_url: str = "") -> dict[str, str]:
    """The environment of `start`, with its secrets in the folder and another program in Alertmanager's place."""
    for name, content in (("alert-page-url", page_url), ("alert-heartbeat-url", heartbeat_url), ("smtp-password", "")):
        (folder / name).write_text(content)
    (folder / "alertmanager").symlink_to(program)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SECRETS": str(folder),
        "CONFIGURATION": str(folder / "alertmanager.yml"),
    }


def fill(folder: Path, settings: Mapping[str, str], **urls: str) -> Path:
    """The configuration that `start` makes."""
    environment = prepared(folder, program="/bin/true", **urls)
    subprocess.run([START], env=environment | dict(settings), check=True)
    return folder / "alertmanager.yml"


def amtool(*arguments: str | Path) -> str:
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    urls = {"page_url": "https://pages.example.org/a?b=1&c=2|3", "heartbeat_url": "https://beat.example.org"}
    return fill(tmp_path_factory.mktemp("full"), MAIL, **urls)


def test_the_configuration_is_valid_and_has_every_address(full: Path) -> None:
    assert "SUCCESS" in amtool("check-config", full)
    filled = full.read_text()
    assert '"https://pages.example.org/a?b=1&c=2|3"' in filled
    assert filled.count("you@example.org") == 2
    assert "smtp_auth_password_file" not in filled
    assert "@PAGE_URL@" not in filled
    assert full.stat().st_mode & 0o777 == 0o600


def test_a_password_of_the_mail_server_stays_in_its_file(tmp_path: Path) -> None:
    environment = prepared(tmp_path, program="/bin/true")
    (tmp_path / "smtp-password").write_text("private")
    subprocess.run([START], env=environment | MAIL, check=True)
    filled = (tmp_path / "alertmanager.yml").read_text()
    assert f'smtp_auth_password_file: "{tmp_path}/smtp-password"' in filled
    assert "private" not in filled


def test_without_any_address_nothing_is_sent_and_it_is_valid_all_the_same(tmp_path: Path) -> None:
    bare = fill(tmp_path, {})
    assert "SUCCESS" in amtool("check-config", bare)
    for receiver in yaml.safe_load(bare.read_text())["receivers"]:
        assert [name for name, configs in receiver.items() if name != "name" and configs] == []


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_reaches_the_receiver_of_its_severity(full: Path, alert: str) -> None:
    labels = {"alertname": alert} | ALERTS[alert]
    matchers = [f"{name}={value}" for name, value in labels.items() if "{{" not in value]
    expected = "heartbeat" if alert == "Watchdog" else labels["severity"]
    assert amtool("config", "routes", "test", f"--config.file={full}", *matchers) == expected


def test_an_alert_of_another_kind_is_not_lost(full: Path) -> None:
    assert amtool("config", "routes", "test", f"--config.file={full}", "alertname=New", "severity=other") == "ticket"


def test_what_inhibits_and_is_inhibited_are_alerts_of_ours(full: Path) -> None:
    named = re.findall(r'alertname!?=~?"([^"]+)"', full.read_text())
    patterns = [pattern for pattern in named if pattern != "Watchdog"]
    assert patterns
    for pattern in patterns:
        parts = re.sub(r"\(([^)]*)\)", lambda found: found[0], pattern)
        assert [alert for alert in ALERTS if re.fullmatch(parts, alert)], pattern


@contextmanager
def webhooks() -> Iterator[tuple[str, Queue[tuple[str, Any]]]]:
    """The URL of a server, and what was posted to it: path and content."""
    received: Queue[tuple[str, Any]] = Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}", received
    finally:
        server.shutdown()
        server.server_close()


def test_the_heartbeat_goes_out_at_once_and_a_consequence_is_silent(tmp_path: Path) -> None:
    url = f"http://{LOOPBACK}:{free_ports().prometheus}"
    command = [
        START,
        f"--storage.path={tmp_path / 'data'}",
        "--cluster.listen-address=",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    fired = [
        {"labels": {"alertname": alert, **ALERTS[alert], "component": component}}
        for alert, component in (
            ("Watchdog", "prometheus"),
            ("ComponentDown", "kafka"),
            ("ComponentDegraded", "kafka"),
            ("ComponentDegraded", "spark"),
        )
    ]
    with webhooks() as (hook, received):
        environment = prepared(
            tmp_path, program=str(ALERTMANAGER), page_url=f"{hook}/page", heartbeat_url=f"{hook}/heartbeat"
        )
        with started(command, tmp_path / "alertmanager.log", **environment):
            assert eventually(lambda: httpx.get(f"{url}/-/ready", timeout=30).is_success)
            httpx.post(f"{url}/api/v2/alerts", json=fired, timeout=30).raise_for_status()
            path, content = received.get(timeout=240)
            assert (path, content["commonLabels"]["alertname"]) == ("/heartbeat", "Watchdog")
            known = httpx.get(f"{url}/api/v2/alerts", timeout=30).json()
    silent = {(one["labels"]["alertname"], one["labels"]["component"]) for one in known if one["status"]["inhibitedBy"]}
    assert len(known) == len(fired)
    assert silent == {("ComponentDegraded", "kafka")}
