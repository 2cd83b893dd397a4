"""The dashboards, one module each; what they share is here."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, VariableOption

from infra.monitoring.grafana import annotations, links
from infra.monitoring.grafana.panels import Panel


def board(
    uid: str,
    title: str,
    description: str,
    rows: Mapping[str, Sequence[Panel]],
    *,
    hours: int,
    refresh: str,
    variables: Sequence[dashboard.CustomVariable] = (),
) -> dashboard.Dashboard:
    """Make a dashboard in UTC of rows by title (none for "") over the last `hours`."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([links.TAG])
        .timezone("utc")
        .time(f"now-{hours}h", "now")
        .refresh(refresh)
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables([*variables, links.airflow()])
        .annotations(annotations.of_dashboard())
        .links(links.of_dashboard())
    )
    number = 0
    for name, panels in rows.items():
        if name:
            made = made.with_row(dashboard.Row(name).id(number := number + 1))
        for panel in panels:
            made = made.with_panel(panel.id(number := number + 1))
    return made


def window_minutes() -> dashboard.CustomVariable:
    """Return the choice between windows of 5 and of 60 minutes; they are never added up."""
    return (
        dashboard.CustomVariable("minutes")
        .label("Window in minutes")
        .values("5,60")
        .options([VariableOption(selected=value == "60", text=value, value=value) for value in ("5", "60")])
        .current(VariableOption(selected=True, text="60", value="60"))
    )


def complete_windows(columns: str, source: str, *, where: str = "true") -> str:
    """Return the query of a chart over complete windows of the chosen width: one that still grows looks like a drop."""
    return (
        f"SELECT window_start AS time, {columns} FROM analytics.{source}"
        f" WHERE window_minutes = ${{minutes}} AND $__timeFilter(window_start) AND {where}"
        " AND window_start + window_minutes * interval '1 minute'"
        " <= (SELECT complete_until FROM analytics.completeness) ORDER BY 1"
    )
