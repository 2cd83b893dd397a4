"""What ages: removals and their grace, rewrites of files, folded batches, published days, erasures."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UPGRADE = """
CREATE FUNCTION ledger.end_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ended_at = clock_timestamp();
    RETURN NEW;
END
$$;

ALTER TABLE ledger.attempts ADD COLUMN ended_at timestamptz, ADD COLUMN swept_at timestamptz,
    ADD COLUMN erasures_seen bigint NOT NULL DEFAULT 0;
UPDATE ledger.attempts SET ended_at = now() WHERE state <> 'open';
CREATE TRIGGER end_attempt BEFORE UPDATE OF state ON ledger.attempts FOR EACH ROW
    WHEN (OLD.state = 'open' AND NEW.state <> 'open') EXECUTE FUNCTION ledger.end_attempt();
CREATE INDEX attempts_unswept ON ledger.attempts (ended_at) WHERE swept_at IS NULL;
COMMENT ON COLUMN ledger.attempts.ended_at IS 'When it was committed or found dead; null while it is open.';
COMMENT ON COLUMN ledger.attempts.swept_at IS 'When its files without effect were given to ledger.removals.';
COMMENT ON COLUMN ledger.attempts.erasures_seen IS
    'How many users were erased when it began: it may only commit while no further one is.';

CREATE TABLE ledger.rewrites (
    attempt_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind text NOT NULL CHECK (kind IN ('compaction', 'erasure')),
    subject text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'committed', 'dead')),
    dag_run_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    swept_at timestamptz
);
CREATE INDEX rewrites_unswept ON ledger.rewrites (created_at) WHERE swept_at IS NULL;
CREATE TRIGGER end_attempt BEFORE UPDATE OF state ON ledger.rewrites FOR EACH ROW
    WHEN (OLD.state = 'open' AND NEW.state <> 'open') EXECUTE FUNCTION ledger.end_attempt();
COMMENT ON TABLE ledger.rewrites IS
    'Every try at writing files anew without changing a number; registered before its first byte, its id names its'
    ' folders.';
COMMENT ON COLUMN ledger.rewrites.subject IS 'The hour that is compacted, or the request of an erasure.';

CREATE TABLE ledger.removals (
    path text PRIMARY KEY,
    zone text NOT NULL,
    bytes bigint,
    reason text NOT NULL CHECK (reason IN ('retention', 'replaced', 'dead', 'erasure')),
    decided_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX removals_by_time ON ledger.removals (decided_at);
COMMENT ON TABLE ledger.removals IS
    'Files and folders (with a slash at the end) that nothing needs any more; the sweep removes them after a grace.';
COMMENT ON COLUMN ledger.removals.bytes IS 'Size, where it is known.';
COMMENT ON COLUMN ledger.removals.decided_at IS 'Since when the ledger does not name it; the grace begins here.';

DO $$
DECLARE
    of_path text;
BEGIN
    SELECT conname INTO STRICT of_path FROM pg_constraint
    WHERE conrelid = 'ledger.segments'::regclass AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%path%';
    EXECUTE format('ALTER TABLE ledger.segments DROP CONSTRAINT %I', of_path);
END
$$;
ALTER TABLE ledger.segments ADD COLUMN file_retired_at timestamptz,
    ADD CONSTRAINT segment_file CHECK (
        (records > 0 AND file_retired_at IS NULL) = (path IS NOT NULL) AND (path IS NULL) = (bytes IS NULL)),
    ALTER CONSTRAINT segments_contiguous DEFERRABLE INITIALLY IMMEDIATE;
COMMENT ON COLUMN ledger.segments.file_retired_at IS
    'When retention took its file; path is null since then. Its counts stay.';
CREATE INDEX segments_with_file ON ledger.segments (batch_id) WHERE path IS NOT NULL;
CREATE INDEX segments_of_attempt ON ledger.segments (attempt_id);
CREATE INDEX segments_by_previous ON ledger.segments (topic_id, partition, previous_end);

ALTER TABLE ledger.batches ADD COLUMN folded bigint NOT NULL DEFAULT 0 CHECK (folded >= 0),
    ADD COLUMN rejected_retired_at timestamptz;
COMMENT ON COLUMN ledger.batches.rejected_retired_at IS
    'When retention took its rejected records, files and samples; the counts stay.';
CREATE INDEX batches_by_publication ON ledger.batches (published_at) WHERE state = 'published';
COMMENT ON COLUMN ledger.batches.folded IS
    'How many older batches retention has added up in this one, as it did with their segments: so every equation still'
    ' holds. 0 for a batch as it was published.';
CREATE INDEX event_files_of_batch ON ledger.event_files (batch_id);
CREATE INDEX batch_windows_of_batch ON ledger.batch_windows (batch_id);
CREATE INDEX drains_by_time ON ledger.drains (planned_at);

CREATE TABLE ledger.published_days (
    day date PRIMARY KEY,
    events bigint NOT NULL CHECK (events >= 0),
    erasures_seen bigint NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ledger.published_days IS
    'UTC days whose events are published as a table for analysts (docs/published-days.md).';
COMMENT ON COLUMN ledger.published_days.events IS
    'Accepted events of the day in the table. Events are never taken away, so an equal number means equal events.';
COMMENT ON COLUMN ledger.published_days.erasures_seen IS 'How many users were erased when it was written.';

CREATE TABLE ledger.erasures (
    id_hash bytea PRIMARY KEY CHECK (length(id_hash) = 32),
    kind text NOT NULL CHECK (kind IN ('user', 'session')),
    token text NOT NULL UNIQUE,
    erased_at timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON ledger.erasures FROM grafana_reader;
COMMENT ON TABLE ledger.erasures IS
    'Who was erased, as keyed hashes (HMAC-SHA-256) of userId and sessionId, and the token that stands for each.';

CREATE TABLE ledger.erasure_requests (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token text NOT NULL,
    dag_run_id text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    committed_at timestamptz,
    finished_at timestamptz,
    counts jsonb
);
COMMENT ON TABLE ledger.erasure_requests IS 'Runs of erase_user: whom, by token, and how far it has come.';
COMMENT ON COLUMN ledger.erasure_requests.committed_at IS
    'Since when nothing in the ledger, the results or the files it names knows the user.';
COMMENT ON COLUMN ledger.erasure_requests.finished_at IS 'When archive and published days were done too.';
COMMENT ON COLUMN ledger.erasure_requests.counts IS 'Records, events and rows that were changed, by zone and table.';

CREATE FUNCTION ledger.analyze_ids() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'ANALYZE analytics.sessions, analytics.session_hours, analytics.users_by_hour, ledger.rejections';
REVOKE EXECUTE ON FUNCTION ledger.analyze_ids() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.analyze_ids() TO clickstream_writer;
COMMENT ON FUNCTION ledger.analyze_ids() IS
    'Takes statistics of the tables with userIds and sessionIds, so that pg_stats has none that were replaced.';

GRANT DELETE ON ledger.segments, ledger.batches, ledger.attempts, ledger.drains, ledger.event_files,
    ledger.batch_windows, ledger.rejections, ledger.rejected_counts, ledger.removals, ledger.rewrites,
    ledger.published_days TO clickstream_writer;

-- Rows of these change or go all the time: vacuum them early rather than in one long run.
ALTER TABLE ledger.partitions
    SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
ALTER TABLE ledger.totals
    SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
ALTER TABLE ledger.stage_durations
    SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
ALTER TABLE ledger.segments SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ledger.event_files SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ledger.batch_windows SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ledger.attempts SET (autovacuum_vacuum_scale_factor = 0.02);
"""

DOWNGRADE = """
ALTER TABLE ledger.attempts RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE ledger.batch_windows RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE ledger.event_files RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE ledger.segments RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE ledger.stage_durations RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE ledger.totals RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE ledger.partitions RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
REVOKE DELETE ON ledger.segments, ledger.batches, ledger.attempts, ledger.drains, ledger.event_files,
    ledger.batch_windows, ledger.rejections, ledger.rejected_counts FROM clickstream_writer;
DROP FUNCTION ledger.analyze_ids();
DROP TABLE ledger.erasure_requests, ledger.erasures, ledger.published_days, ledger.removals, ledger.rewrites;
DROP INDEX ledger.drains_by_time, ledger.batch_windows_of_batch, ledger.event_files_of_batch,
    ledger.batches_by_publication, ledger.segments_by_previous, ledger.segments_of_attempt,
    ledger.segments_with_file;
ALTER TABLE ledger.batches DROP COLUMN folded, DROP COLUMN rejected_retired_at;
ALTER TABLE ledger.segments ALTER CONSTRAINT segments_contiguous NOT DEFERRABLE, DROP CONSTRAINT segment_file;
ALTER TABLE ledger.segments DROP COLUMN file_retired_at,
    ADD CHECK ((records > 0) = (path IS NOT NULL) AND (path IS NULL) = (bytes IS NULL)) NOT VALID;
DROP TRIGGER end_attempt ON ledger.attempts;
DROP FUNCTION ledger.end_attempt();
ALTER TABLE ledger.attempts DROP COLUMN ended_at, DROP COLUMN swept_at, DROP COLUMN erasures_seen;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo."""
    op.execute(DOWNGRADE)
