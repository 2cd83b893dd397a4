"""The published windows, and the conservation equations over ledger and windows."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE SCHEMA analytics;
GRANT USAGE ON SCHEMA analytics TO clickstream_writer, grafana_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO clickstream_writer;
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT SELECT ON TABLES TO grafana_reader;

CREATE TABLE analytics.traffic_by_window (
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    page_views bigint NOT NULL,
    add_to_carts bigint NOT NULL,
    purchases bigint NOT NULL,
    logins bigint NOT NULL,
    logouts bigint NOT NULL,
    users bigint NOT NULL,
    sessions bigint NOT NULL,
    status text NOT NULL DEFAULT 'provisional' CHECK (status IN ('provisional', 'complete')),
    revision integer NOT NULL DEFAULT 1,
    batch_id bigint NOT NULL,
    first_published_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (window_start, window_minutes),
    CHECK (events = page_views + add_to_carts + purchases + logins + logouts)
);
CREATE INDEX traffic_by_window_provisional ON analytics.traffic_by_window (window_start) WHERE status = 'provisional';
COMMENT ON TABLE analytics.traffic_by_window IS
    'Events per tumbling UTC window. A window without accepted events has no row.';
COMMENT ON COLUMN analytics.traffic_by_window.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN analytics.traffic_by_window.window_minutes IS 'Width of the window in minutes: 5 or 60.';
COMMENT ON COLUMN analytics.traffic_by_window.events IS 'Accepted events with an eventTime in the window.';
COMMENT ON COLUMN analytics.traffic_by_window.page_views IS 'Events of type PAGE_VIEW.';
COMMENT ON COLUMN analytics.traffic_by_window.add_to_carts IS 'Events of type ADD_TO_CART.';
COMMENT ON COLUMN analytics.traffic_by_window.purchases IS 'Events of type PURCHASE.';
COMMENT ON COLUMN analytics.traffic_by_window.logins IS 'Events of type LOGIN.';
COMMENT ON COLUMN analytics.traffic_by_window.logouts IS 'Events of type LOGOUT.';
COMMENT ON COLUMN analytics.traffic_by_window.users IS 'Distinct userIds, exact; not additive over windows.';
COMMENT ON COLUMN analytics.traffic_by_window.sessions IS 'Distinct sessionIds, exact; not additive over windows.';
COMMENT ON COLUMN analytics.traffic_by_window.status IS
    'complete once no on-time data is missing, else provisional; late data may still change either.';
COMMENT ON COLUMN analytics.traffic_by_window.revision IS
    '1, then one more in each publish that changes any published number of the window.';
COMMENT ON COLUMN analytics.traffic_by_window.batch_id IS 'The batch that published the window last.';
COMMENT ON COLUMN analytics.traffic_by_window.first_published_at IS 'When the window first appeared.';
COMMENT ON COLUMN analytics.traffic_by_window.published_at IS 'When the window was published last.';

CREATE VIEW ledger.watermarks AS
SELECT p.topic, p.topic_id, p.partition,
       greatest(
           (SELECT max(s.last_record_at) FROM ledger.segments s JOIN ledger.batches b USING (batch_id)
            WHERE s.topic_id = p.topic_id AND s.partition = p.partition AND b.state = 'published'),
           CASE WHEN p.stopped IS NULL AND p.closed_at IS NULL AND p.settled
                 AND p.next_offset >= p.log_end_offset AND NOT EXISTS (
               SELECT FROM ledger.segments s LEFT JOIN ledger.batches b USING (batch_id)
               WHERE s.topic_id = p.topic_id AND s.partition = p.partition
                 AND s.first_offset < p.log_end_offset AND b.state IS DISTINCT FROM 'published')
           THEN p.observed_at END
       ) AS watermark
FROM ledger.partitions p
WHERE p.closed_at IS NULL OR EXISTS (
    SELECT FROM ledger.segments s LEFT JOIN ledger.batches b USING (batch_id)
    WHERE s.topic_id = p.topic_id AND s.partition = p.partition AND b.state IS DISTINCT FROM 'published');
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
SELECT 'segments not yet published', 'offsets', coalesce(sum(s.end_offset - s.first_offset), 0)::bigint, 0::bigint
FROM ledger.segments s LEFT JOIN ledger.batches b USING (batch_id)
WHERE b.state IS DISTINCT FROM 'published';
COMMENT ON VIEW ledger.conservation IS 'One row a check; unaccounted is 0 when it holds.';
"""

DOWNGRADE = """
DROP VIEW ledger.conservation;
DROP VIEW ledger.watermarks;
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics
    REVOKE SELECT, INSERT, UPDATE, DELETE ON TABLES FROM clickstream_writer;
ALTER DEFAULT PRIVILEGES IN SCHEMA analytics REVOKE SELECT ON TABLES FROM grafana_reader;
DROP SCHEMA analytics CASCADE;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo."""
    op.execute(DOWNGRADE)
