"""Grafana-managed alert rules: what needs SQL. Prometheus owns all others.

Each rule measures with SQL (string columns become labels, one number is the value) and compares it with a threshold.
Nothing to compare with, as in the first days, is no row, and that is no alert.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import alerting, expr
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.alerting import RelativeTimeRange
from grafana_foundation_sdk.models.common import DataSourceRef

from infra.monitoring.grafana.links import PROMETHEUS_URL
from infra.monitoring.grafana.queries import NEWEST_BATCHES, POSTGRESQL, rows

# Not the dashboards' folder: alerts are provisioned before it exists, and would make a second one of its name.
FOLDER, FOLDER_UID = "Clickstream alerts", "clickstream-alerts"
GROUP = "clickstream-results"
EVERY_SECONDS = 300
EXPRESSION = DataSourceRef(type_val="__expr__", uid="__expr__")

# The last complete hour, and the same hour of up to seven days before it, as far as anything happened then.
HOURS = """
WITH last AS (
    SELECT date_trunc('hour', complete_until, 'UTC') - interval '1 hour' AS hour FROM analytics.completeness
), days AS (
    SELECT t.window_start AS hour, t.events, t.page_views, t.purchases
    FROM last CROSS JOIN generate_series(1, 7) ago
    JOIN analytics.traffic_by_window t
        ON t.window_minutes = 60 AND t.window_start = last.hour - ago * interval '24 hours'
), usual AS (
    SELECT count(*) AS days, percentile_cont(0.5) WITHIN GROUP (ORDER BY purchases) AS purchases FROM days
)
""".strip()

PURCHASES = f"""
{HOURS}
SELECT coalesce(t.purchases, 0) / usual.purchases AS share_of_usual
FROM last CROSS JOIN usual
LEFT JOIN analytics.traffic_by_window t ON t.window_minutes = 60 AND t.window_start = last.hour
WHERE usual.days >= 3 AND usual.purchases >= 20
"""


def _collapse(source: str, labels: tuple[str, ...], number: str, whole: str) -> str:
    """Compare each value's hour with its usual one, while the rest goes on: the whole without the value.

    The whole is what the numbers of all values add up to, so the rest does not fall with the value, however large.
    """
    names = ", ".join(labels)
    return f"""
{HOURS}, before AS (
    SELECT v.{", v.".join(labels)}, v.window_start AS hour, v.{number} AS counted
    FROM days JOIN analytics.{source} v ON v.window_minutes = 60 AND v.window_start = days.hour
), usual_of AS (
    SELECT {names}, percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(b.counted, 0)) AS counted,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY days.{whole} - coalesce(b.counted, 0)) AS rest
    FROM (SELECT DISTINCT {names} FROM before) v CROSS JOIN days LEFT JOIN before b USING ({names}, hour)
    GROUP BY {names}
)
SELECT {names}, coalesce(v.{number}, 0) / usual_of.counted AS share_of_usual
FROM last CROSS JOIN usual CROSS JOIN usual_of
JOIN analytics.traffic_by_window t ON t.window_minutes = 60 AND t.window_start = last.hour
LEFT JOIN (SELECT {names}, window_start, {number} FROM analytics.{source} WHERE window_minutes = 60) v
    USING ({names}, window_start)
WHERE usual.days >= 3 AND usual_of.counted >= 100 AND usual_of.rest >= 20
  AND t.{whole} - coalesce(v.{number}, 0) >= usual_of.rest / 2
"""


PRODUCERS = f"""
SELECT r.producer_id, sum(r.records)::double precision AS rejected
FROM ({NEWEST_BATCHES}) b CROSS JOIN LATERAL (
    SELECT producer_id, sum(records) AS records FROM ledger.rejections_by_producer
    WHERE batch_id = b.batch_id GROUP BY producer_id) r
WHERE b.published_at > now() - interval '1 hour' GROUP BY r.producer_id
"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One alert: its measure, when it fires, and what it says.

    Attributes:
        name: Its name, and that of its runbook page in docs/runbooks/.
        query: SQL whose rows are compared one by one.
        fires: `lt` or `gt`: below or above the threshold.
        threshold: In the unit of the query's number.
        severity: `page` wakes somebody, `ticket` waits for the morning.
        component: What of the pipeline it is about.
        summary: One line for the one who is called; may name labels.
        description: What it means.
    """

    name: str
    query: str
    fires: Literal["lt", "gt"]
    threshold: float
    severity: Literal["page", "ticket"]
    component: Literal["results", "producers"]
    summary: str
    description: str

    def build(self) -> alerting.Rule:
        """Return the rule as the SDK has it."""
        measure = (
            alerting.Query("A")
            .datasource_uid(str(POSTGRESQL.uid))
            .relative_time_range(RelativeTimeRange(from_val=3600, to=0))
            .model(rows(self.query).ref_id("A"))
        )
        evaluator = expr.ExprTypeThresholdConditionsEvaluator().type(self.fires).params([self.threshold])
        compare = (
            alerting.Query("B")
            .datasource_uid(str(EXPRESSION.uid))
            .model(
                expr.TypeThreshold()
                .ref_id("B")
                .datasource(EXPRESSION)
                .expression("A")
                .conditions([expr.ExprTypeThresholdConditions().evaluator(evaluator)])
            )
        )
        return (
            alerting.Rule(self.name)
            .uid(f"clickstream-{self.name.lower()}")
            .org_id(1)
            .folder_uid(FOLDER_UID)
            .rule_group(GROUP)
            .condition("B")
            .queries([measure, compare])
            .for_val("0s")
            .no_data_state("OK")
            .exec_err_state("Error")
            .labels({"severity": self.severity, "owner": "grafana", "component": self.component})
            .annotations(
                {
                    "summary": self.summary,
                    "description": self.description,
                    "runbook_url": f"{PROMETHEUS_URL}/user/{self.name}.md",
                }
            )
        )


RULES = (
    Rule(
        name="PurchasesVanish",
        query=PURCHASES,
        fires="lt",
        threshold=0.25,
        severity="page",
        component="results",
        summary="Purchases of the last complete hour are below a quarter of what is usual at this hour",
        description="Compared with the median of the same hour of the last seven days, if that is 20 or more.",
    ),
    Rule(
        name="AudienceCollapses",
        query=_collapse("audience_by_window", ("dimension", "value"), "events", "events"),
        fires="lt",
        threshold=0.2,
        severity="ticket",
        component="results",
        summary="Events of {{ $labels.dimension }} {{ $labels.value }} are below a fifth of what is usual at this hour",
        description="All other events are at least half of what is usual. Compared with the median of the same hour"
        " of the last seven days, if that is 100 events or more, and 20 or more of all others.",
    ),
    Rule(
        name="PageCollapses",
        query=_collapse("pages_by_window", ("page",), "views", "page_views"),
        fires="lt",
        threshold=0.2,
        severity="ticket",
        component="results",
        summary="Views of {{ $labels.page }} are below a fifth of what is usual at this hour",
        description="Views of all other pages are at least half of what is usual. Compared with the median of the same"
        " hour of the last seven days, if that is 100 views or more, and 20 or more of all others.",
    ),
    Rule(
        name="ProducerRejected",
        query=PRODUCERS,
        fires="gt",
        threshold=100,
        severity="ticket",
        component="producers",
        summary="More than 100 records of producer {{ $labels.producer_id }} were rejected within an hour",
        description="Counted in the samples that batches published in the last hour keep, so there may be more.",
    ),
)


def provisioned() -> dict[str, Any]:
    """Return the rules as a file of Grafana's provisioning holds them."""
    group = alerting.RuleGroup(GROUP).folder_uid(FOLDER_UID).interval(EVERY_SECONDS)
    built = json.loads(JSONEncoder().encode(group.rules([rule.build() for rule in RULES]).build()))
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": built["title"],
                "folder": FOLDER,
                "interval": f"{built['interval']}s",
                "rules": built["rules"],
            }
        ],
    }
