"""Views that account for every offset and event: watermarks, conservation, hour checks, lineage."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE VIEW ledger.unpublished_segments AS
SELECT s.* FROM ledger.segments s WHERE s.batch_id IS NULL
UNION ALL
SELECT s.* FROM ledger.batches b JOIN ledger.segments s USING (batch_id) WHERE b.state = 'open';
COMMENT ON VIEW ledger.unpublished_segments IS 'Segments that wait for a batch, and those of the open one.';

CREATE VIEW ledger.watermarks AS
SELECT p.topic, p.topic_id, p.partition,
       greatest(
           (SELECT s.last_record_at FROM ledger.segments s
            WHERE s.topic_id = p.topic_id AND s.partition = p.partition AND s.last_record_at IS NOT NULL
              AND s.batch_id IS NOT NULL AND NOT EXISTS (
                  SELECT FROM ledger.batches b WHERE b.batch_id = s.batch_id AND b.state = 'open')
            ORDER BY s.last_record_at DESC LIMIT 1),
           CASE WHEN p.stopped IS NULL AND p.closed_at IS NULL AND p.settled
                 AND p.next_offset >= p.log_end_offset AND NOT EXISTS (
               SELECT FROM ledger.unpublished_segments s
               WHERE s.topic_id = p.topic_id AND s.partition = p.partition AND s.first_offset < p.log_end_offset)
           THEN p.observed_at END
       ) AS watermark
FROM ledger.partitions p
WHERE p.closed_at IS NULL OR EXISTS (
    SELECT FROM ledger.unpublished_segments s WHERE s.topic_id = p.topic_id AND s.partition = p.partition);
COMMENT ON VIEW ledger.watermarks IS
    'Per partition: the greatest published record timestamp or, where all that a plan saw is published, its time.';

CREATE VIEW ledger.conservation AS
WITH traffic AS (
    SELECT t.window_minutes, sum(t.events)::bigint AS events FROM analytics.traffic_by_window t
    WHERE date_trunc('hour', t.window_start, 'UTC') NOT IN (SELECT hour FROM ledger.retired_hours)
    GROUP BY t.window_minutes
), accepted AS (
    SELECT coalesce((SELECT sum(accepted) FROM ledger.batches WHERE state = 'published'), 0)::bigint
         - coalesce((SELECT sum(events) FROM ledger.retired_hours), 0)::bigint AS events
)
SELECT 'batch: planned = landed + absent + lost' AS check_name,
       coalesce('batches ' || string_agg(batch_id::text, ', ') FILTER (WHERE planned <> landed + absent + lost),
                'all batches') AS subject,
       coalesce(sum(planned), 0)::bigint AS value,
       coalesce(sum(abs(planned - landed - absent - lost)), 0)::bigint AS unaccounted
FROM ledger.batches WHERE state = 'published'
UNION ALL
SELECT 'batch: landed = accepted + duplicate + late + rejected',
       coalesce('batches ' || string_agg(batch_id::text, ', ')
                    FILTER (WHERE landed <> accepted + duplicate + late + rejected), 'all batches'),
       coalesce(sum(landed), 0)::bigint,
       coalesce(sum(abs(landed - accepted - duplicate - late - rejected)), 0)::bigint
FROM ledger.batches WHERE state = 'published'
UNION ALL
SELECT 'batch: planned = its segments',
       coalesce('batches ' || string_agg(b.batch_id::text, ', ') FILTER (WHERE b.planned <> coalesce(s.offsets, 0)),
                'all batches'), coalesce(sum(b.planned), 0)::bigint,
       coalesce(sum(abs(b.planned - coalesce(s.offsets, 0))), 0)::bigint
FROM ledger.batches b LEFT JOIN (
    SELECT batch_id, sum(end_offset - first_offset) AS offsets
    FROM ledger.segments GROUP BY batch_id) s USING (batch_id)
WHERE b.state <> 'released'
UNION ALL
SELECT 'partition: next_offset - first_offset = its segments', p.topic || '/' || p.partition || ' ' || p.topic_id,
       p.next_offset - p.first_offset,
       abs(p.next_offset - p.first_offset - coalesce(s.offsets, 0))::bigint
FROM ledger.partitions p LEFT JOIN (
    SELECT topic_id, partition, sum(end_offset - first_offset) AS offsets
    FROM ledger.segments GROUP BY topic_id, partition) s USING (topic_id, partition)
UNION ALL
SELECT 'windows: sum of events at ' || w.minutes || ' min = accepted', 'unretired hours',
       coalesce(t.events, 0), abs(coalesce(t.events, 0) - a.events)
FROM (VALUES (5), (60)) w (minutes) LEFT JOIN traffic t ON t.window_minutes = w.minutes CROSS JOIN accepted a
UNION ALL
SELECT 'event files: sum of live records = accepted', 'unretired hours', coalesce(sum(f.records), 0)::bigint,
       abs(coalesce(sum(f.records), 0)::bigint - (SELECT events FROM accepted))
FROM ledger.event_files f WHERE f.live
UNION ALL
SELECT 'sessions: sum of events = accepted', 'unretired hours', s.events, abs(s.events - a.events)
FROM accepted a CROSS JOIN (
    SELECT (coalesce((SELECT sum(events) FROM analytics.sessions), 0) - coalesce((
        SELECT sum(h.events) FROM analytics.session_hours h JOIN ledger.retired_hours USING (hour)), 0)
    )::bigint AS events
) s
UNION ALL
SELECT 'segments not yet published', 'offsets', coalesce(sum(s.end_offset - s.first_offset), 0)::bigint, 0::bigint
FROM ledger.unpublished_segments s;
COMMENT ON VIEW ledger.conservation IS 'One row a check; unaccounted is 0 when it holds.';

CREATE VIEW ledger.hour_checks AS
SELECT h.hour, c.check_name, coalesce(c.expected, 0)::bigint AS expected, coalesce(c.found, 0)::bigint AS found
FROM (
    SELECT hour, hour + interval '1 hour' AS until, sum(records) AS records
    FROM ledger.event_files WHERE live GROUP BY hour) h
CROSS JOIN LATERAL (
    SELECT sum(t.events) FILTER (WHERE t.window_minutes = 5) AS events_5,
           sum(t.events) FILTER (WHERE t.window_minutes = 60) AS events_60,
           sum(t.users) FILTER (WHERE t.window_minutes = 60) AS users,
           sum(t.sessions) FILTER (WHERE t.window_minutes = 60) AS sessions,
           sum(t.page_views) AS page_views, sum(t.purchases) AS purchases, sum(t.events) AS events, count(*) AS windows
    FROM analytics.traffic_by_window t WHERE t.window_start >= h.hour AND t.window_start < h.until) t
CROSS JOIN LATERAL (
    SELECT sum(p.views) AS views FROM analytics.pages_by_window p
    WHERE p.window_minutes IN (5, 60) AND p.window_start >= h.hour AND p.window_start < h.until) p
CROSS JOIN LATERAL (
    SELECT count(*) AS windows FROM (
        SELECT d.window_start, d.window_minutes, min(d.events) AS least, max(d.events) AS most,
               count(*) FILTER (WHERE d.dimension IN ('device', 'region', 'referrer')) AS present
        FROM (
            SELECT a.window_start, a.window_minutes, a.dimension, sum(a.events) AS events
            FROM analytics.audience_by_window a
            WHERE a.window_minutes IN (5, 60) AND a.window_start >= h.hour AND a.window_start < h.until
            GROUP BY a.window_start, a.window_minutes, a.dimension) d
        GROUP BY d.window_start, d.window_minutes) d
    JOIN analytics.traffic_by_window w USING (window_start, window_minutes)
    WHERE w.window_start >= h.hour AND w.window_start < h.until
      AND d.least = w.events AND d.most = w.events AND d.present = 3) a
CROSS JOIN LATERAL (
    SELECT count(*) AS windows FROM analytics.funnel_by_window f
    WHERE f.window_minutes IN (5, 60) AND f.window_start >= h.hour AND f.window_start < h.until) f
CROSS JOIN LATERAL (
    SELECT sum(r.purchases) AS purchases FROM analytics.revenue_by_window r
    WHERE r.window_minutes IN (5, 60) AND r.window_start >= h.hour AND r.window_start < h.until) r
CROSS JOIN LATERAL (
    SELECT sum(s.events) AS events, count(*) AS sessions FROM analytics.session_hours s WHERE s.hour = h.hour) s
CROSS JOIN LATERAL (
    SELECT count(*) AS users FROM analytics.users_by_hour u WHERE u.hour = h.hour) u
CROSS JOIN LATERAL (
    SELECT count(*) AS sessions FROM analytics.sessions s
    WHERE s.started_at >= h.hour AND s.started_at < h.until) started
CROSS JOIN LATERAL (
    SELECT sum(w.sessions) AS sessions FROM analytics.sessions_by_window w
    WHERE w.window_minutes IN (5, 60) AND w.dimension = 'all' AND w.window_start >= h.hour AND w.window_start < h.until
) counted
CROSS JOIN LATERAL (VALUES
    ('events of the 5-minute windows', h.records, t.events_5),
    ('events of the 60-minute window', h.records, t.events_60),
    ('views by page', t.page_views, p.views),
    ('windows whose dimensions add up to their events', t.windows, a.windows),
    ('windows in the funnel', t.windows, f.windows),
    ('purchases by currency', t.purchases, r.purchases),
    ('events of sessions', h.records, s.events),
    ('sessions', t.sessions, s.sessions),
    ('users', t.users, u.users),
    ('sessions by the windows they start in', 2 * started.sessions, counted.sessions)
) c (check_name, expected, found);
COMMENT ON VIEW ledger.hour_checks IS
    'What the tables say of an hour, found by different ways: expected and found are equal, or the hour is wrong.';

CREATE VIEW ledger.lineage AS
SELECT w.window_start, w.window_minutes, b.batch_id, b.published_at, publishing.dag_run_id AS aggregate_run,
       p.topic, s.topic_id, s.partition, s.first_offset, s.end_offset, s.records, s.lost, s.path AS raw_file,
       landing.dag_run_id AS drain_run
FROM ledger.batch_windows w
JOIN ledger.batches b USING (batch_id)
JOIN ledger.attempts publishing ON publishing.batch_id = b.batch_id AND publishing.state = 'committed'
JOIN ledger.segments s ON s.batch_id = b.batch_id
JOIN ledger.partitions p USING (topic_id, partition)
LEFT JOIN ledger.attempts landing ON landing.attempt_id = s.attempt_id;
COMMENT ON VIEW ledger.lineage IS
    'From a window to the batches that published it, their offset ranges, raw files and Airflow runs.';
"""

DOWNGRADE = """
DROP VIEW ledger.lineage, ledger.hour_checks, ledger.conservation, ledger.watermarks, ledger.unpublished_segments;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo."""
    op.execute(DOWNGRADE)
