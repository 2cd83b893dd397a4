"""What health checks and metrics read: lag, checks, audits, and totals that outlive the rows they count."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE ledger.partitions ADD COLUMN caught_up_at timestamptz, ADD COLUMN retention_seconds double precision
    CHECK (retention_seconds >= 0);
COMMENT ON COLUMN ledger.partitions.caught_up_at IS
    'A time before which everything in the log is landed, as two successive plans found.';
COMMENT ON COLUMN ledger.partitions.retention_seconds IS
    'How long Kafka keeps a record, as the last plan saw it; Infinity for ever, null before a plan has looked.';

CREATE VIEW ledger.lag AS
SELECT topic, topic_id, partition, next_offset, log_start_offset, log_end_offset, stopped,
       greatest(log_end_offset - next_offset, 0) AS lag_records, landed_until,
       greatest(extract(epoch FROM now() - landed_until), 0)::double precision AS lag_seconds,
       retention_seconds - greatest(extract(epoch FROM now() - landed_until), 0)::double precision
           AS retention_headroom_seconds
FROM (
    SELECT p.*, greatest(
        p.last_record_at, p.caught_up_at,
        CASE WHEN p.next_offset >= p.log_end_offset AND p.settled THEN p.observed_at END
    ) AS landed_until
    FROM ledger.partitions p WHERE p.closed_at IS NULL) p;
COMMENT ON VIEW ledger.lag IS
    'How far each partition of the log is landed: in records as of the last plan, in seconds as of now, and for how'
    ' long Kafka still keeps the oldest record that may not be landed.';

CREATE VIEW ledger.masked_rejections AS
SELECT topic_id, partition, "offset", batch_id, record_at, reason,
       CASE WHEN reason NOT IN ('unknown_event_type', 'bad_event_time') THEN detail
            ELSE regexp_replace(detail, '[^[:space:][:punct:]]', '*', 'g') END AS detail,
       regexp_replace(excerpt, '[^[:space:][:punct:]]', '*', 'g') AS excerpt
FROM ledger.rejections;
COMMENT ON VIEW ledger.masked_rejections IS 'Rejected records with producers'' texts masked, whoever reads.';

CREATE TABLE ledger.health_checks (
    component text NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text NOT NULL CHECK (status IN ('ok', 'degraded', 'down')),
    latency_seconds double precision NOT NULL CHECK (latency_seconds >= 0),
    reason text NOT NULL,
    dag_run_id text NOT NULL,
    PRIMARY KEY (component, checked_at)
);
GRANT DELETE ON ledger.health_checks TO clickstream_writer;
COMMENT ON TABLE ledger.health_checks IS 'One row for each component and check; old ones are removed after a week.';
COMMENT ON COLUMN ledger.health_checks.component IS 'What was checked, such as kafka or storage.';
COMMENT ON COLUMN ledger.health_checks.status IS
    'ok; degraded: it works, but needs attention; down: it does not do its work.';
COMMENT ON COLUMN ledger.health_checks.latency_seconds IS
    'How long the check took; of kafka_canary, from producing a record to consuming it.';
COMMENT ON COLUMN ledger.health_checks.reason IS 'What was found and, where it is not ok, what to do.';

CREATE VIEW ledger.health AS
WITH RECURSIVE components AS (
    (SELECT component FROM ledger.health_checks ORDER BY component LIMIT 1)
    UNION ALL
    SELECT (SELECT h.component FROM ledger.health_checks h WHERE h.component > c.component
            ORDER BY h.component LIMIT 1) FROM components c WHERE c.component IS NOT NULL
)
SELECT newest.* FROM components c CROSS JOIN LATERAL (
    SELECT h.component, h.checked_at, h.status, h.latency_seconds, h.reason, h.dag_run_id FROM ledger.health_checks h
    WHERE h.component = c.component ORDER BY h.checked_at DESC LIMIT 1) newest;
COMMENT ON VIEW ledger.health IS 'The newest check of each component, found by a few steps through the index.';

CREATE TABLE ledger.audits (
    audited_at timestamptz NOT NULL,
    check_name text NOT NULL,
    value bigint NOT NULL,
    unaccounted bigint NOT NULL,
    PRIMARY KEY (audited_at, check_name)
);
GRANT DELETE ON ledger.audits TO clickstream_writer;
COMMENT ON TABLE ledger.audits IS
    'What ledger.conservation said at a time, summed by check; old rows are removed after a week.';
COMMENT ON COLUMN ledger.audits.unaccounted IS 'What the check misses (records or offsets); 0 when it holds.';

CREATE TABLE ledger.totals (
    metric text NOT NULL,
    label text NOT NULL,
    value bigint NOT NULL,
    PRIMARY KEY (metric, label)
);
COMMENT ON TABLE ledger.totals IS
    'Counts since the beginning, kept as batches end: batches by outcome, records by disposition, rejected by reason.'
    ' They never fall, whatever retention removes.';

CREATE TABLE ledger.stage_durations (
    stage text NOT NULL,
    at_most double precision NOT NULL,
    batches bigint NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (stage, at_most)
);
COMMENT ON TABLE ledger.stage_durations IS
    'Published batches by how long a stage took: queue (claimed until its last attempt began), spark, publish, and'
    ' total. Not cumulative.';
COMMENT ON COLUMN ledger.stage_durations.at_most IS
    'Upper bound of the bucket in seconds, inclusive; the lower one is the bound before it.';

INSERT INTO ledger.totals
SELECT 'batches', outcome, count(b.batch_id) FROM unnest(ARRAY['published', 'released']) outcome
LEFT JOIN ledger.batches b ON b.state = outcome GROUP BY outcome
UNION ALL
SELECT 'records', d.disposition, coalesce(sum(d.records), 0) FROM (
    SELECT disposition, 0::bigint AS records FROM unnest(ARRAY['accepted', 'duplicate', 'late', 'rejected']) disposition
    UNION ALL
    SELECT d.disposition, d.records FROM ledger.batches b CROSS JOIN LATERAL (VALUES
        ('accepted', b.accepted), ('duplicate', b.duplicate), ('late', b.late), ('rejected', b.rejected)
    ) d (disposition, records)
    WHERE b.state = 'published') d
GROUP BY d.disposition
UNION ALL
SELECT 'rejected', reason, coalesce(sum(c.records), 0) FROM unnest(ARRAY[
    'null_value', 'too_large', 'not_utf8', 'not_json', 'not_an_object', 'unsupported_schema_version', 'missing_field',
    'wrong_type', 'forbidden_character', 'unknown_event_type', 'bad_event_time', 'future_event_time']) reason
LEFT JOIN ledger.rejected_counts c USING (reason) GROUP BY reason;

CREATE FUNCTION ledger.add_duration(stage text, took interval) RETURNS void LANGUAGE sql AS $$
    INSERT INTO ledger.stage_durations AS d
    SELECT add_duration.stage, (
        SELECT min(bound) FROM unnest(ARRAY[1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 600, 1800,
                                            'Infinity']::double precision[]) bound
        WHERE bound >= extract(epoch FROM took)), 1, extract(epoch FROM took) WHERE took IS NOT NULL
    ON CONFLICT ON CONSTRAINT stage_durations_pkey DO UPDATE
    SET batches = d.batches + 1, seconds = d.seconds + excluded.seconds
$$;

CREATE FUNCTION ledger.count_batch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
BEGIN
    UPDATE ledger.totals SET value = value + 1 WHERE metric = 'batches' AND label = NEW.state;
    IF NEW.state = 'published' THEN
        UPDATE ledger.totals t SET value = t.value + d.records
        FROM (VALUES ('accepted', NEW.accepted), ('duplicate', NEW.duplicate), ('late', NEW.late),
                     ('rejected', NEW.rejected)) d (disposition, records)
        WHERE t.metric = 'records' AND t.label = d.disposition AND d.records > 0;
        UPDATE ledger.batches SET written_at = clock_timestamp() WHERE batch_id = NEW.batch_id;
        SELECT created_at INTO began FROM ledger.attempts WHERE batch_id = NEW.batch_id AND attempt = NEW.attempt;
        PERFORM ledger.add_duration('queue', began - NEW.created_at);
        PERFORM ledger.add_duration('spark', NEW.published_at - began);
        PERFORM ledger.add_duration('publish', clock_timestamp() - NEW.published_at);
        PERFORM ledger.add_duration('total', clock_timestamp() - NEW.created_at);
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER count_batch AFTER INSERT OR UPDATE OF state ON ledger.batches
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state <> 'open') EXECUTE FUNCTION ledger.count_batch();

CREATE FUNCTION ledger.count_rejected() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.totals AS t SELECT 'rejected', reason, sum(records) FROM added GROUP BY reason
    ON CONFLICT (metric, label) DO UPDATE SET value = t.value + excluded.value;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_rejected AFTER INSERT ON ledger.rejected_counts
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger.count_rejected();

CREATE TABLE ledger.write_probe (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    token uuid NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ledger.write_probe IS
    'One row that check_health writes anew each time, to see that the database takes a write and keeps it.';

-- An id of these characters alone can't carry a producer's free text past the masking.
CREATE VIEW ledger.rejections_by_producer AS
SELECT r.batch_id, b.published_at, r.record_at, r.reason, r.producer_id, count(*) AS records
FROM (
    SELECT batch_id, record_at, reason,
           substring(excerpt FROM '"producerId"[[:space:]]*:[[:space:]]*"([A-Za-z0-9._:-]{1,255})"') AS producer_id
    FROM ledger.rejections) r
JOIN ledger.batches b USING (batch_id)
WHERE r.producer_id IS NOT NULL
GROUP BY r.batch_id, b.published_at, r.record_at, r.reason, r.producer_id;
COMMENT ON VIEW ledger.rejections_by_producer IS
    'Rejected records by the producer that their excerpt names. At the least: of each batch and reason at most 1,000'
    ' are kept, and an excerpt is cut, may be no JSON, or may name nobody.';
COMMENT ON COLUMN ledger.rejections_by_producer.producer_id IS
    'The producerId in the excerpt, if it has only letters of ASCII, digits, and . _ : -; it is not verified.';
COMMENT ON COLUMN ledger.rejections_by_producer.published_at IS 'When the batch was published.';

CREATE INDEX segments_historic ON ledger.segments (attempt_id) WHERE historic > 0;

ALTER TABLE ledger.batches ADD COLUMN written_at timestamptz;
COMMENT ON COLUMN ledger.batches.written_at IS
    'When publishing had written everything, right before its commit; published_at is when it began.';

CREATE INDEX drains_by_run ON ledger.drains (dag_run_id);

CREATE OR REPLACE VIEW ledger.watermarks AS
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
           THEN p.observed_at END,
           least(p.caught_up_at, (
               SELECT min(s.first_record_at) FROM ledger.unpublished_segments s
               WHERE s.topic_id = p.topic_id AND s.partition = p.partition))
       ) AS watermark
FROM ledger.partitions p
WHERE p.closed_at IS NULL OR EXISTS (
    SELECT FROM ledger.unpublished_segments s WHERE s.topic_id = p.topic_id AND s.partition = p.partition);
COMMENT ON VIEW ledger.watermarks IS
    'Per partition, the greatest of: the greatest published record timestamp; the time of the last plan, where all that'
    ' it saw is published; the earlier of caught_up_at and the least timestamp that is landed but not published.';
"""

DOWNGRADE = """
CREATE OR REPLACE VIEW ledger.watermarks AS
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
DROP INDEX ledger.drains_by_run;
ALTER TABLE ledger.batches DROP COLUMN written_at;
DROP INDEX ledger.segments_historic;
DROP VIEW ledger.rejections_by_producer;
DROP TABLE ledger.write_probe;
DROP TRIGGER count_rejected ON ledger.rejected_counts;
DROP TRIGGER count_batch ON ledger.batches;
DROP FUNCTION ledger.count_rejected(), ledger.count_batch(), ledger.add_duration(text, interval);
DROP TABLE ledger.stage_durations, ledger.totals, ledger.audits;
DROP VIEW ledger.health;
DROP TABLE ledger.health_checks;
DROP VIEW ledger.masked_rejections, ledger.lag;
ALTER TABLE ledger.partitions DROP COLUMN caught_up_at, DROP COLUMN retention_seconds;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo."""
    op.execute(DOWNGRADE)
