"""Grafana: whether it serves and reaches its own database."""

from __future__ import annotations

from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.health.fetch import fetch


def look(installation: Installation) -> Finding:
    """Ask Grafana for its health.

    Raises:
        NoAnswer: It does not serve, or calls itself unhealthy.
    """
    url = str(installation.settings.grafana_url).rstrip("/")
    health = fetch(f"{url}/api/health").json()
    if health["database"] == "ok":
        return finding(f"Grafana {health.get('version', 'without a version')} serves.")
    problem = f"Grafana calls its database {health['database']}: see its log."
    return finding("It serves.", [Problem(Status.DOWN, problem)])


CHECK = Check(
    component="grafana",
    look=look,
    remedy="See whether Grafana at CLICKSTREAM_GRAFANA_URL runs, and its log.",
    slow_seconds=3,
    deadline_seconds=15,
    configured=lambda settings: settings.grafana_url is not None,
)
