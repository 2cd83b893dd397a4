"""The two data sources, and how a panel or a rule asks them."""

from typing import Self

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="clickstream-prometheus")
POSTGRESQL = DataSourceRef(type_val="grafana-postgresql-datasource", uid="clickstream-postgresql")

# Texts of rejected records are long, and masking them or finding their producer takes time: only few batches are read.
NEWEST_BATCHES = """
SELECT batch_id, published_at, rejected FROM ledger.batches ORDER BY batch_id DESC LIMIT 500
""".strip()


class SqlQuery(Dataquery):
    """A query of Grafana's PostgreSQL data source; the SDK has no model for it."""

    def __init__(self, text: str, *, form: str, ref_id: str) -> None:
        self.text = text
        self.form = form
        self.ref_id = ref_id

    def to_json(self) -> dict[str, object]:
        """Return the query as a dashboard or a rule holds it."""
        return {
            "refId": self.ref_id,
            "datasource": POSTGRESQL,
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.text,
        }


class Sql(Builder[Dataquery]):
    """Builds a `SqlQuery`."""

    def __init__(self, text: str, form: str) -> None:
        self._query = SqlQuery(text.strip(), form=form, ref_id="A")

    def ref_id(self, ref_id: str) -> Self:
        """Name the query within its panel."""
        self._query.ref_id = ref_id
        return self

    def build(self) -> Dataquery:
        """Return the query."""
        return self._query


Query = Sql | prometheus.Dataquery


def rows(text: str) -> Sql:
    """Ask PostgreSQL for a table."""
    return Sql(text, "table")


def over_time(text: str) -> Sql:
    """Ask PostgreSQL for series: columns `time` (ascending), `metric` (the series' name, optional) and numbers."""
    return Sql(text, "time_series")


def now(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Ask Prometheus for the value at the end of the dashboard's range."""
    return _promql(expression, legend).instant()


def course(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Ask Prometheus for the values over the dashboard's range."""
    return _promql(expression, legend).range()


def _promql(expression: str, legend: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(expression).format(PromQueryFormat.TIME_SERIES)
    return query.legend_format(legend or "__auto")
