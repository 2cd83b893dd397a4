"""The ledger: partitions, drains, attempts, segments, batches, event files and their constraints."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = """
CREATE SCHEMA ledger;
GRANT USAGE ON SCHEMA ledger TO clickstream_writer, grafana_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA ledger GRANT SELECT, INSERT, UPDATE ON TABLES TO clickstream_writer;
ALTER DEFAULT PRIVILEGES IN SCHEMA ledger GRANT SELECT ON TABLES TO grafana_reader;

CREATE TABLE ledger.partitions (
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    log_start_offset bigint NOT NULL,
    log_end_offset bigint NOT NULL,
    settled boolean NOT NULL DEFAULT false,
    observed_at timestamptz NOT NULL,
    last_record_at timestamptz,
    stopped text CHECK (
        stopped IN ('expired', 'recreated', 'truncated', 'create_time', 'unreadable', 'silent')),
    stopped_reason text,
    stopped_at timestamptz,
    closed_at timestamptz,
    PRIMARY KEY (topic_id, partition),
    UNIQUE (topic_id, partition, first_offset),
    CHECK (first_offset <= next_offset),
    CHECK ((stopped IS NULL) = (stopped_reason IS NULL) AND (stopped IS NULL) = (stopped_at IS NULL))
);
COMMENT ON TABLE ledger.partitions IS 'Progress of each Kafka partition; the only truth about offsets.';
COMMENT ON COLUMN ledger.partitions.topic_id IS 'Kafka''s id of this incarnation of the topic.';
COMMENT ON COLUMN ledger.partitions.first_offset IS 'Offset at which the pipeline began with this partition.';
COMMENT ON COLUMN ledger.partitions.next_offset IS 'Next offset to land; everything before it is in a segment.';
COMMENT ON COLUMN ledger.partitions.log_start_offset IS 'Start of the log, as the last plan saw it.';
COMMENT ON COLUMN ledger.partitions.log_end_offset IS 'End of the log (last stable offset), as the last plan saw it.';
COMMENT ON COLUMN ledger.partitions.settled IS
    'Whether no transaction was open then, which could still bring older records.';
COMMENT ON COLUMN ledger.partitions.observed_at IS 'Time of that plan, taken before it asked for the end of the log.';
COMMENT ON COLUMN ledger.partitions.last_record_at IS 'Greatest record timestamp landed.';
COMMENT ON COLUMN ledger.partitions.stopped IS 'Why no further record can be landed, null while all is well.';
COMMENT ON COLUMN ledger.partitions.closed_at IS 'When this incarnation of the topic was declared gone.';

CREATE TABLE ledger.drains (
    drain_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dag_run_id text NOT NULL,
    planned_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ledger.drains IS 'A group of partitions that one task of a drain run lands.';

CREATE TABLE ledger.drain_ranges (
    drain_id bigint NOT NULL REFERENCES ledger.drains ON DELETE CASCADE,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    PRIMARY KEY (drain_id, topic_id, partition),
    FOREIGN KEY (topic_id, partition) REFERENCES ledger.partitions,
    CHECK (first_offset < end_offset)
);
COMMENT ON TABLE ledger.drain_ranges IS 'The bounded ranges [first_offset, end_offset) of a drain.';

CREATE TABLE ledger.batches (
    batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'published', 'released')),
    attempt integer NOT NULL DEFAULT 0,
    planned bigint NOT NULL,
    landed bigint NOT NULL,
    absent bigint NOT NULL,
    lost bigint NOT NULL,
    accepted bigint,
    duplicate bigint,
    late bigint,
    rejected bigint,
    id_conflicts bigint,
    settings jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    dag_run_id text NOT NULL,
    CONSTRAINT batch_offsets_conserved CHECK (planned = landed + absent + lost),
    CONSTRAINT batch_records_conserved CHECK (
        state <> 'published' OR coalesce(landed = accepted + duplicate + late + rejected, false)),
    CHECK ((state = 'published') = (published_at IS NOT NULL))
);
CREATE UNIQUE INDEX batches_at_most_one_open ON ledger.batches ((true)) WHERE state = 'open';
COMMENT ON TABLE ledger.batches IS 'Groups of segments that are published together, exactly once.';
COMMENT ON COLUMN ledger.batches.attempt IS 'Number of the newest attempt; only that one may publish.';
COMMENT ON COLUMN ledger.batches.planned IS 'Offsets in its segments.';
COMMENT ON COLUMN ledger.batches.landed IS 'Records in its segments'' files.';
COMMENT ON COLUMN ledger.batches.absent IS 'Offsets that Kafka never gave to a record (confirmed gaps).';
COMMENT ON COLUMN ledger.batches.lost IS 'Offsets declared lost.';
COMMENT ON COLUMN ledger.batches.settings IS 'The settings the batch was claimed with; every attempt uses these.';

CREATE TABLE ledger.attempts (
    attempt_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    drain_id bigint REFERENCES ledger.drains,
    batch_id bigint REFERENCES ledger.batches,
    attempt integer NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'committed', 'dead')),
    dag_run_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((drain_id IS NULL) <> (batch_id IS NULL)),
    UNIQUE (drain_id, attempt),
    UNIQUE (batch_id, attempt)
);
COMMENT ON TABLE ledger.attempts IS
    'Every try at a drain or a batch, registered before its first byte; its id names its folders.';
COMMENT ON COLUMN ledger.attempts.state IS 'open, committed, or dead: a dead one''s files may be swept.';

CREATE TABLE ledger.landings (
    attempt_id uuid NOT NULL REFERENCES ledger.attempts ON DELETE CASCADE,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    records bigint NOT NULL,
    absent bigint NOT NULL,
    historic bigint NOT NULL,
    first_record_at timestamptz,
    last_record_at timestamptz,
    path text,
    bytes bigint,
    PRIMARY KEY (attempt_id, topic_id, partition)
);
COMMENT ON TABLE ledger.landings IS 'What a drain''s attempt has written; becomes segments when it is committed.';

CREATE TABLE ledger.segments (
    segment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    records bigint NOT NULL CHECK (records >= 0),
    absent bigint NOT NULL CHECK (absent >= 0),
    lost bigint NOT NULL CHECK (lost >= 0),
    historic bigint NOT NULL CHECK (historic BETWEEN 0 AND records),
    first_record_at timestamptz,
    last_record_at timestamptz,
    path text UNIQUE,
    bytes bigint,
    batch_id bigint REFERENCES ledger.batches,
    attempt_id uuid REFERENCES ledger.attempts,
    claim_limit bigint CHECK (claim_limit > 0),
    previous_end bigint,
    root_offset bigint GENERATED ALWAYS AS (CASE WHEN previous_end IS NULL THEN first_offset END) STORED,
    CHECK (first_offset < end_offset),
    CONSTRAINT segment_offsets_conserved CHECK (end_offset - first_offset = records + absent + lost),
    CHECK ((records > 0) = (path IS NOT NULL) AND (path IS NULL) = (bytes IS NULL)),
    CHECK (previous_end = first_offset),
    UNIQUE (topic_id, partition, first_offset),
    UNIQUE (topic_id, partition, end_offset),
    CONSTRAINT segments_contiguous FOREIGN KEY (topic_id, partition, previous_end)
        REFERENCES ledger.segments (topic_id, partition, end_offset),
    CONSTRAINT segments_begin_with_partition FOREIGN KEY (topic_id, partition, root_offset)
        REFERENCES ledger.partitions (topic_id, partition, first_offset)
);
CREATE INDEX segments_unclaimed ON ledger.segments (segment_id) WHERE batch_id IS NULL;
CREATE INDEX segments_of_batch ON ledger.segments (batch_id);
CREATE INDEX segments_by_last_record ON ledger.segments (topic_id, partition, last_record_at)
    WHERE batch_id IS NOT NULL;
COMMENT ON TABLE ledger.segments IS
    'Landed ranges [first_offset, end_offset). Each follows on its predecessor, so there is no gap and no overlap.';
COMMENT ON COLUMN ledger.segments.absent IS 'Offsets that Kafka holds no record for, confirmed by a second read.';
COMMENT ON COLUMN ledger.segments.lost IS 'Offsets declared lost; such a segment has no file.';
COMMENT ON COLUMN ledger.segments.historic IS 'Records with the header clickstream-load: historic.';
COMMENT ON COLUMN ledger.segments.claim_limit IS
    'Most offsets a batch with this segment may have, set by release_batch; null for the setting alone.';

CREATE TABLE ledger.losses (
    loss_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    first_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    dag_run_id text NOT NULL,
    declared_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (topic_id, partition) REFERENCES ledger.partitions,
    CHECK (first_offset <= end_offset)
);
COMMENT ON TABLE ledger.losses IS 'Offsets that a person declared lost, and why.';

CREATE TABLE ledger.event_files (
    path text PRIMARY KEY,
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    records bigint NOT NULL CHECK (records > 0),
    bytes bigint NOT NULL,
    batch_id bigint NOT NULL REFERENCES ledger.batches,
    live boolean NOT NULL DEFAULT true
);
CREATE INDEX event_files_live ON ledger.event_files (hour) WHERE live;
COMMENT ON TABLE ledger.event_files IS 'Files of accepted events, each of one UTC hour.';
COMMENT ON COLUMN ledger.event_files.live IS 'Whether it is part of the events; false once rewritten or retired.';

CREATE TABLE ledger.batch_windows (
    batch_id bigint NOT NULL,
    window_start timestamptz NOT NULL,
    window_minutes smallint NOT NULL,
    PRIMARY KEY (window_start, window_minutes, batch_id)
);
COMMENT ON TABLE ledger.batch_windows IS 'Which batch published which window.';

CREATE TABLE ledger.retired_hours (
    hour timestamptz PRIMARY KEY CHECK (hour = date_trunc('hour', hour, 'UTC')),
    events bigint NOT NULL CHECK (events >= 0),
    retired_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ledger.retired_hours IS 'Hours whose events are gone; they are never recomputed.';
COMMENT ON COLUMN ledger.retired_hours.events IS 'Accepted events the hour had.';

CREATE TABLE ledger.rejections (
    topic_id text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    batch_id bigint NOT NULL REFERENCES ledger.batches,
    record_at timestamptz NOT NULL,
    reason text NOT NULL,
    detail text,
    excerpt text,
    PRIMARY KEY (topic_id, partition, "offset")
);
CREATE INDEX rejections_of_batch ON ledger.rejections (batch_id, reason);
REVOKE ALL ON ledger.rejections FROM grafana_reader;
COMMENT ON TABLE ledger.rejections IS
    'At most 1,000 rejected records per reason and batch; all of them are in the rejected zone.';

CREATE VIEW ledger.rejected_records AS
SELECT topic_id, partition, "offset", batch_id, record_at, reason,
       CASE WHEN readable OR reason NOT IN ('unknown_event_type', 'bad_event_time') THEN detail
            ELSE regexp_replace(detail, '[^[:space:][:punct:]]', '*', 'g') END AS detail,
       CASE WHEN readable THEN excerpt
            ELSE regexp_replace(excerpt, '[^[:space:][:punct:]]', '*', 'g') END AS excerpt
FROM ledger.rejections, (SELECT pg_has_role(current_user, 'clickstream_writer', 'member') AS readable) reader;
COMMENT ON VIEW ledger.rejected_records IS 'Rejected records; producers'' texts are masked for readers of dashboards.';

CREATE TABLE ledger.rejected_counts (
    batch_id bigint NOT NULL REFERENCES ledger.batches,
    reason text NOT NULL,
    records bigint NOT NULL CHECK (records > 0),
    PRIMARY KEY (batch_id, reason)
);
COMMENT ON TABLE ledger.rejected_counts IS 'Exact number of rejected records per batch and reason.';
"""

DOWNGRADE = """
ALTER DEFAULT PRIVILEGES IN SCHEMA ledger REVOKE SELECT, INSERT, UPDATE ON TABLES FROM clickstream_writer;
ALTER DEFAULT PRIVILEGES IN SCHEMA ledger REVOKE SELECT ON TABLES FROM grafana_reader;
DROP SCHEMA ledger CASCADE;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo."""
    op.execute(DOWNGRADE)
