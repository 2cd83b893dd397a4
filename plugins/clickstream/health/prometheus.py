"""Prometheus: whether it serves, and whether it reaches what it watches."""

from __future__ import annotations

from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.health.fetch import fetch


def look(installation: Installation) -> Finding:
    """Ask whether it is ready, then for its targets.

    Raises:
        NoAnswer: It is not ready.
    """
    url = str(installation.settings.prometheus_url).rstrip("/")
    fetch(f"{url}/-/ready")
    targets = fetch(f"{url}/api/v1/targets?state=active").json()["data"]["activeTargets"]
    problems = [
        Problem(
            Status.DEGRADED,
            f"Target {target['labels']['job']} at {target['labels']['instance']} is down ({target['lastError']}): see"
            " whether it runs and lets Prometheus in; until then its alerts are blind.",
        )
        for target in targets
        if target["health"] == "down"
    ]
    if not targets:
        problems.append(Problem(Status.DEGRADED, "It has no target: check scrape_configs in prometheus.yml."))
    return finding(f"Ready; targets: {len(targets)}.", problems)


CHECK = Check(
    component="prometheus",
    look=look,
    remedy="See whether Prometheus at CLICKSTREAM_PROMETHEUS_URL runs, and its log; without it no alert fires.",
    slow_seconds=3,
    deadline_seconds=15,
    configured=lambda settings: settings.prometheus_url is not None,
)
