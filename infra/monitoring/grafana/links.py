"""Where dashboards lead to: Airflow's pages, and each other."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import DashboardLink, DashboardLinkType, VariableOption

TAG = "clickstream"
AIRFLOW_URL = "http://127.0.0.1:8080"  # of the embedded stack; each dashboard has it in a box, to be overwritten
PROMETHEUS_URL = "http://127.0.0.1:9090"  # likewise; it serves the runbooks of all alerts


def airflow() -> dashboard.TextBoxVariable:
    """Return the variable that holds Airflow's address."""
    return (
        dashboard.TextBoxVariable("airflow")
        .label("Airflow")
        .description("Address of Airflow, for links to its runs")
        .default_value(AIRFLOW_URL)
        .current(VariableOption(selected=True, text=AIRFLOW_URL, value=AIRFLOW_URL))
    )


def run_of(dag_id: str) -> tuple[str, str]:
    """Return the link of a column that holds ids of a DAG's runs."""
    return ("Run in Airflow", f"${{airflow}}/dags/{dag_id}/runs/${{__value.raw}}")


def of_dashboard() -> list[Builder[DashboardLink]]:
    """Return the links at the top of each dashboard."""
    return [
        dashboard.DashboardLink("Clickstream").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(keep_time=True),
        dashboard.DashboardLink("Airflow")
        .type(DashboardLinkType.LINK)
        .icon("external link")
        .url("${airflow}")
        .target_blank(target_blank=True),
    ]
