"""Counters of finished tasks and runs, fed by the triggers of the next migration.

Deriving them from Airflow's tables would lose what `airflow db clean` deletes and cost more the longer the history;
listeners and StatsD never hear of a task that was killed.

A trigger only appends to `increments`, so that no transaction of Airflow ever waits for another because of it. One
in a hundred also folds what is committed into `totals`, unless another one does so at this moment. A counter is the sum
over both. Seconds are numeric, since sums of floating point numbers differ in their last bit with the order of folding,
and a counter that falls by a bit is a reset to Prometheus.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = """
CREATE SCHEMA clickstream;

CREATE TABLE clickstream.totals (
    series text NOT NULL,
    dag_id text NOT NULL,
    task_id text NOT NULL,
    label text NOT NULL,
    count bigint NOT NULL,
    seconds numeric NOT NULL,
    last_at timestamptz,
    PRIMARY KEY (series, dag_id, task_id, label)
);
COMMENT ON TABLE clickstream.totals IS
    'Tries of tasks (task) and runs of DAGs (run) that finished, by state; and how long tries ran (duration) and waited'
    ' in the queue (queued), by upper bound in seconds. With increments, every one since these triggers exist.';

CREATE TABLE clickstream.increments (LIKE clickstream.totals);
COMMENT ON TABLE clickstream.increments IS 'What is to be added to totals.';

CREATE FUNCTION clickstream.fold_sometimes() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.01 AND pg_try_advisory_xact_lock(hashtext('clickstream.increments')) THEN
        WITH folded AS (DELETE FROM clickstream.increments RETURNING *)
        INSERT INTO clickstream.totals AS t
        SELECT series, dag_id, task_id, label, sum(count), sum(seconds), max(last_at) FROM folded GROUP BY 1, 2, 3, 4
        ON CONFLICT (series, dag_id, task_id, label) DO UPDATE
        SET count = t.count + excluded.count, seconds = t.seconds + excluded.seconds,
            last_at = greatest(t.last_at, excluded.last_at);
    END IF;
END
$$;

CREATE FUNCTION clickstream.is_finished(state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(state IN (
        'success', 'failed', 'skipped', 'upstream_failed', 'removed', 'up_for_retry', 'restarting'), false)
$$;
COMMENT ON FUNCTION clickstream.is_finished IS
    'Whether a try is over. One that is to be retried or was cleared while it ran has failed, as in its history.';

CREATE FUNCTION clickstream.increments_of(
    state text, started timestamptz, ended timestamptz, ran double precision, queued timestamptz
) RETURNS TABLE (series text, label text, seconds numeric) LANGUAGE sql STABLE AS $$
    SELECT 'task', CASE WHEN state IN ('up_for_retry', 'restarting') THEN 'failed' ELSE state END, 0::numeric
    UNION ALL
    SELECT measured.series, (
        SELECT min(bound) FROM unnest(ARRAY[0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 'Infinity']::numeric[]) bound
        WHERE bound >= measured.seconds)::text, measured.seconds
    FROM (VALUES ('duration', coalesce(ran::numeric, extract(epoch FROM ended - started))),
                 ('queued', extract(epoch FROM started - queued))) measured (series, seconds)
    WHERE state IN ('success', 'failed', 'skipped', 'up_for_retry') AND queued IS NOT NULL AND measured.seconds >= 0
$$;
"""

DOWNGRADE = """
DROP SCHEMA clickstream CASCADE;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo; the counters are gone."""
    op.execute(DOWNGRADE)
