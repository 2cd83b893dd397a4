"""What changed when: deployments, loads of old data and declared losses, drawn on every chart."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import AnnotationQuery

from infra.monitoring.grafana.queries import POSTGRESQL, PROMETHEUS, course, rows

# A build that nobody served in the hour before; a minute is left out, for the scrape in which both are there.
DEPLOYMENTS = (
    "count by (version, revision) (build_info)"
    " unless count by (version, revision) (last_over_time(build_info[1h] offset 1m))"
)

HISTORIC = """
SELECT a.created_at AS time, sum(s.historic) || ' historic records landed' AS text, 'historic' AS tags
FROM ledger.segments s JOIN ledger.attempts a USING (attempt_id)
WHERE s.historic > 0 AND $__timeFilter(a.created_at)
GROUP BY a.attempt_id, a.created_at ORDER BY 1
"""

LOSSES = """
SELECT declared_at AS time,
       format('Partition %s: %s offsets declared lost, %s', partition, end_offset - first_offset, reason) AS text,
       'loss,' || kind AS tags
FROM ledger.losses WHERE $__timeFilter(declared_at) ORDER BY 1
"""


def of_dashboard() -> list[Builder[AnnotationQuery]]:
    """Return the annotations of each dashboard."""
    return [
        _annotation("Deployments", "blue")
        .datasource(PROMETHEUS)
        .target(course(DEPLOYMENTS).interval("60s").ref_id("Anno"))
        .title_format("Version {{version}}, revision {{revision}}")
        .text_format("This build is served for the first time within an hour.")
        .tag_keys("version,revision"),
        _annotation("Historic loads", "purple").datasource(POSTGRESQL).target(rows(HISTORIC).ref_id("Anno")),
        _annotation("Declared losses", "red").datasource(POSTGRESQL).target(rows(LOSSES).ref_id("Anno")),
    ]


def _annotation(name: str, color: str) -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name(name).enable(enable=True).icon_color(color)
