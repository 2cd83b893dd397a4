"""Pipeline health: is the data fresh, complete and correct, and if not, where is it stuck?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from infra.monitoring.grafana.boards import board
from infra.monitoring.grafana.links import run_of
from infra.monitoring.grafana.panels import (
    BAD,
    GOOD,
    NONE_IS_GOOD,
    QUIET,
    WARNING,
    chart,
    column,
    good_above,
    good_below,
    listing,
    number,
    states,
    words,
)
from infra.monitoring.grafana.queries import NEWEST_BATCHES, course, now, rows

FRESHNESS = "time() - clickstream_watermark_timestamp_seconds"
FRESH_SECONDS = 300  # the service level: fresher than this 99 % of the time
HEADROOM_SECONDS = 7200  # below it the alert RetentionHeadroomLow pages
STATUS = words({"ok": ("ok", GOOD), "degraded": ("degraded", WARNING), "down": ("down", BAD)})

BATCHES = """
SELECT b.batch_id, b.state, b.attempt, b.planned, b.landed, b.absent, b.lost, b.accepted, b.duplicate, b.late,
       b.rejected,
       CASE b.state WHEN 'published' THEN abs(b.planned - b.landed - b.absent - b.lost)
           + abs(b.landed - b.accepted - b.duplicate - b.late - b.rejected) END AS unaccounted,
       extract(epoch FROM coalesce(b.published_at, now()) - b.created_at)::double precision AS seconds,
       b.created_at, b.published_at, a.dag_run_id AS run
FROM ledger.batches b LEFT JOIN ledger.attempts a USING (batch_id, attempt)
WHERE b.state = 'open' OR $__timeFilter(b.created_at)
ORDER BY b.batch_id DESC LIMIT 50
"""

SEGMENTS = """
SELECT a.created_at AS landed_at, p.topic, s.partition, s.first_offset, s.end_offset, s.records, s.absent, s.historic,
       s.last_record_at, s.batch_id, a.dag_run_id AS run
FROM ledger.segments s JOIN ledger.partitions p USING (topic_id, partition) JOIN ledger.attempts a USING (attempt_id)
WHERE $__timeFilter(a.created_at) ORDER BY s.segment_id DESC LIMIT 50
"""

AUDIT = """
SELECT check_name AS equation, value, unaccounted, audited_at FROM ledger.audits
WHERE audited_at = (SELECT max(audited_at) FROM ledger.audits) ORDER BY unaccounted DESC, check_name
"""

COMPONENTS = """
SELECT component, status, reason, latency_seconds AS latency, checked_at, dag_run_id AS run FROM ledger.health
ORDER BY array_position(ARRAY['down', 'degraded', 'ok'], status), component
"""

WITH_REJECTED = f"""
SELECT batch_id FROM ({NEWEST_BATCHES}) newest
WHERE rejected > 0 AND $__timeFilter(published_at) ORDER BY batch_id DESC LIMIT 50
""".strip()

# The records are chosen first, so no more than these are masked.
REJECTED = f"""
WITH examples AS (
    SELECT e.* FROM ({WITH_REJECTED}) b JOIN ledger.rejected_counts c USING (batch_id) CROSS JOIN LATERAL (
        SELECT topic_id, partition, "offset" FROM ledger.masked_rejections
        WHERE batch_id = c.batch_id AND reason = c.reason LIMIT 5) e
    ORDER BY batch_id DESC LIMIT 50
)
SELECT record_at, reason, detail, excerpt, topic_id, partition, "offset", batch_id
FROM examples JOIN ledger.masked_rejections USING (topic_id, partition, "offset")
ORDER BY record_at DESC, partition, "offset" DESC
"""

PRODUCERS = f"""
SELECT r.producer_id AS producer, r.reason, sum(r.records) AS records, max(r.last) AS last
FROM ({WITH_REJECTED}) b CROSS JOIN LATERAL (
    SELECT producer_id, reason, sum(records) AS records, max(record_at) AS last FROM ledger.rejections_by_producer
    WHERE batch_id = b.batch_id GROUP BY producer_id, reason) r
GROUP BY r.producer_id, r.reason ORDER BY sum(r.records) DESC LIMIT 50
"""

VERDICT = (
    number(
        "Fresh: age of the results",
        now(FRESHNESS),
        description="How long ago the watermark was: up to there everything is published. The service level is under"
        " 5 minutes, 99 % of the time. If it grows, follow the stages below from the left.",
        unit="s",
        steps=good_below(180, FRESH_SECONDS),
        decimals=0,
    ),
    number(
        "Complete: lag",
        now("max(clickstream_lag_seconds)"),
        description="The partition furthest behind: age of the oldest record that may not be landed.",
        unit="s",
        steps=good_below(120, FRESH_SECONDS),
        decimals=0,
    ),
    number(
        "Time until Kafka deletes",
        now("min(clickstream_retention_headroom_seconds)"),
        description="How long Kafka still keeps the oldest record that may not be landed; at 0 records are lost for"
        " ever. Endless where the topic keeps everything.",
        unit="s",
        steps=good_above(HEADROOM_SECONDS, 3 * HEADROOM_SECONDS),
    ),
    number(
        "Correct: unaccounted",
        now("clickstream_unaccounted_records"),
        description="Offsets and records that the ledger's equations miss, in the newest audit. Anything but 0 is a"
        " bug: see the equations below.",
        steps=NONE_IS_GOOD,
    ),
    number(
        "Components down",
        now("sum(1 - clickstream_component_up)"),
        description="Components whose newest check says down; the table below has the reason and what to do.",
        steps=NONE_IS_GOOD,
    ),
    number(
        "Components degraded",
        now("sum(clickstream_component_degraded)"),
        description="Components that work but need attention.",
        steps=((None, GOOD), (1, WARNING)),
    ),
)

STAGES = (
    number(
        "1 Kafka receives",
        now("sum(rate(clickstream_log_end_offset[5m]))"),
        description="Records a second, over 5 minutes. 0 while visitors are there: the generator or Kafka is stuck.",
        unit="recps",
        width=3,
    ),
    number(
        "2 To be landed",
        now("sum(clickstream_lag_records)"),
        description="Records in the log that the drain has not landed, as of its last plan.",
        width=3,
    ),
    number(
        "3 Partitions stopped",
        now("sum(clickstream_partition_stopped) or 0 * sum(clickstream_committed_offset)"),
        description="Partitions that can't be drained until a person acts: the task report_stops names the remedy.",
        steps=NONE_IS_GOOD,
        width=3,
    ),
    number(
        "4 Since the last drain",
        now('time() - clickstream_last_success_timestamp_seconds{dag_id="drain_clickstream"}'),
        description="Since drain_clickstream last succeeded; it runs every minute.",
        unit="s",
        steps=good_below(120, 180),
        width=3,
        decimals=0,
    ),
    number(
        "5 To be published",
        now("clickstream_unpublished_records"),
        description="Records that are landed and in no published batch.",
        width=3,
    ),
    number(
        "6 Age of the open batch",
        now("clickstream_open_batch_age_seconds"),
        description="Since the open batch was claimed; 0 when none is open.",
        unit="s",
        steps=good_below(180, FRESH_SECONDS),
        width=3,
        decimals=0,
    ),
    number(
        "7 Its attempts",
        now("clickstream_open_batch_attempts"),
        description="Tries at the open batch; from 3 on it may be poisoned: see the runbook of aggregate_clickstream.",
        steps=good_below(2, 3),
        width=3,
    ),
    number(
        "8 Since the last publication",
        now('time() - clickstream_last_success_timestamp_seconds{dag_id="aggregate_clickstream"}'),
        description="Since aggregate_clickstream last succeeded; it runs every 5 minutes, and after each drain that"
        " landed something.",
        unit="s",
        steps=good_below(FRESH_SECONDS, 2 * FRESH_SECONDS),
        width=3,
        decimals=0,
    ),
    chart(
        "Records a second, from the topic to publication",
        course("sum(rate(clickstream_log_end_offset[5m]))", "1 received by Kafka"),
        course("sum(rate(clickstream_committed_offset[5m]))", "2 landed"),
        course("sum(rate(clickstream_records_total[5m]))", "3 published"),
        description="The stage whose line falls behind is the one that is stuck.",
        unit="recps",
    ),
    chart(
        "Age of the results",
        course(FRESHNESS, "age"),
        description="The line is the service level of 5 minutes.",
        unit="s",
        steps=((None, GOOD), (FRESH_SECONDS, BAD)),
    ),
    chart(
        "Lag by partition",
        course("clickstream_lag_seconds", "{{topic}}/{{partition}}"),
        description="One partition alone: it is stopped, or its leader is away. All: the drain is stuck.",
        unit="s",
        width=8,
    ),
    chart(
        "Time until Kafka deletes, by partition",
        course("clickstream_retention_headroom_seconds", "{{topic}}/{{partition}}"),
        description="The line is where the alert pages.",
        unit="s",
        steps=((None, BAD), (HEADROOM_SECONDS, GOOD)),
        width=8,
    ),
    chart(
        "How long a batch takes, 95th percentile by stage",
        course(
            "histogram_quantile(0.95, sum by (le, stage) (rate(clickstream_batch_duration_seconds_bucket[30m])))",
            "{{stage}}",
        ),
        description="Of the last 30 minutes: queue (claimed until its last attempt began), spark, publish and total."
        " The line is 80 % of its interval.",
        unit="s",
        steps=((None, GOOD), (0.8 * FRESH_SECONDS, BAD)),
        width=8,
    ),
)

CORRECTNESS = (
    listing(
        "Batches and their equation: planned = landed + absent + lost, landed = accepted + duplicate + late + rejected",
        rows(BATCHES),
        description="The open batch and the newest of the range; unaccounted is what the two equations miss.",
        columns={
            "state": column(
                mappings=[
                    words(
                        {
                            "open": ("open", WARNING),
                            "published": ("published", GOOD),
                            "released": ("released", QUIET),
                        }
                    )
                ]
            ),
            "unaccounted": column(steps=NONE_IS_GOOD),
            "lost": column(steps=NONE_IS_GOOD),
            "seconds": column(unit="s"),
            "run": column(link=run_of("aggregate_clickstream"), width=260),
        },
    ),
    listing(
        "The ledger's equations, newest audit",
        rows(AUDIT),
        description="`SELECT * FROM ledger.conservation` says the same as of now, with the batch or partition.",
        columns={"unaccounted": column(steps=NONE_IS_GOOD)},
        width=12,
    ),
    listing(
        "Components, newest check",
        rows(COMPONENTS),
        description="What was found, and what to do.",
        columns={
            "status": column(mappings=[STATUS], width=90),
            "latency": column(unit="s", width=90),
            "run": column(link=run_of("check_health"), width=160),
        },
        width=12,
    ),
)

HISTORY = (
    number(
        "Fresh within 5 minutes",
        now(f"avg_over_time(({FRESHNESS} < bool {FRESH_SECONDS})[$__range:1m])"),
        description="Share of the range in which the results were fresher than 5 minutes; the service level is 99 %.",
        unit="percentunit",
        steps=good_above(0.98, 0.99),
        decimals=2,
    ),
    number(
        "Rejected, share of the last hour",
        now(
            'sum(rate(clickstream_records_total{disposition="rejected"}[1h]))'
            " / (sum(rate(clickstream_records_total[1h])) > 0) or 0 * sum(clickstream_records_total)"
        ),
        description="Rejected records of those published in the last hour.",
        unit="percentunit",
        steps=good_below(0.005, 0.01),
        decimals=2,
    ),
    states(
        "Components over time",
        course("clickstream_component_up - 0.5 * clickstream_component_degraded", "{{component}}"),
        description="Green works, orange needs attention, red is down; a gap: not checked within 15 minutes.",
        mappings=[words({"1": ("ok", GOOD), "0.5": ("degraded", WARNING), "0": ("down", BAD)})],
        width=16,
    ),
)

RECORDS = (
    chart(
        "Records by disposition, a second",
        course("sum by (disposition) (rate(clickstream_records_total[5m]))", "{{disposition}}"),
        description="What became of the records of published batches.",
        unit="recps",
    ),
    chart(
        "Rejected by reason, a second",
        course("sum by (reason) (rate(clickstream_rejected_records_total[5m]))", "{{reason}}"),
        description="The reasons are explained in docs/data-contract.md.",
        unit="recps",
    ),
    listing(
        "Rejected by producer",
        rows(PRODUCERS),
        description="Of the samples that are kept, at most 1,000 for each batch and reason, those that name one; of the"
        " newest 50 batches with rejected records, among the newest 500.",
        columns={},
        width=8,
    ),
    listing(
        "Rejected records",
        rows(REJECTED),
        description="Up to 5 of each reason in the newest 50 batches with rejected records, among the newest 500; texts"
        " of producers are masked. For others ask ledger.masked_rejections in `make psql`.",
        columns={},
        width=16,
    ),
    listing(
        "Landed segments",
        rows(SEGMENTS),
        description="What the drain landed, with the run that did it.",
        columns={"run": column(link=run_of("drain_clickstream"), width=260)},
    ),
)


def make() -> Dashboard:
    """Return the dashboard."""
    return board(
        "clickstream-pipeline-health",
        "Pipeline health",
        "Is the data fresh, complete and correct? If not, where is it stuck?",
        {
            "": VERDICT,
            "Where is it stuck? From the topic to publication": STAGES,
            "Batches, equations, components": CORRECTNESS,
            "Service level and history": HISTORY,
            "Records": RECORDS,
        },
        hours=6,
        refresh="30s",
    )
