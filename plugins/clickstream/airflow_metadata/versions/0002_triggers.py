"""Triggers that count each try and run in the very transaction that ends it.

Going down to 0001 removes them and keeps the counters, as an upgrade of Airflow that changes these tables may ask for.
They run as their owner, whatever role Airflow has. Making and removing them waits for a busy table for some seconds at
the most, since Airflow would queue behind.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = """
SET LOCAL lock_timeout = '5s';

CREATE FUNCTION clickstream.count_task() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO clickstream.increments
    SELECT i.series, NEW.dag_id, NEW.task_id, i.label, 1, i.seconds, NEW.end_date
    FROM clickstream.increments_of(NEW.state, NEW.start_date, NEW.end_date, NEW.duration, NEW.queued_dttm) i;
    PERFORM clickstream.fold_sometimes();
    RETURN NULL;
END
$$;
CREATE TRIGGER clickstream_task_finished AFTER UPDATE OF state ON public.task_instance FOR EACH ROW
    WHEN (clickstream.is_finished(NEW.state) AND NOT clickstream.is_finished(OLD.state))
    EXECUTE FUNCTION clickstream.count_task();

CREATE FUNCTION clickstream.count_added_tasks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO clickstream.increments
    SELECT i.series, a.dag_id, a.task_id, i.label, count(*), sum(i.seconds), max(a.end_date)
    FROM added a, clickstream.increments_of(a.state, a.start_date, a.end_date, a.duration, a.queued_dttm) i
    WHERE clickstream.is_finished(a.state)
    GROUP BY i.series, a.dag_id, a.task_id, i.label;
    IF FOUND THEN
        PERFORM clickstream.fold_sometimes();
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER clickstream_task_added AFTER INSERT ON public.task_instance
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION clickstream.count_added_tasks();

CREATE FUNCTION clickstream.count_run() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO clickstream.increments VALUES ('run', NEW.dag_id, '', NEW.state, 1, 0, coalesce(NEW.end_date, now()));
    PERFORM clickstream.fold_sometimes();
    RETURN NULL;
END
$$;
CREATE TRIGGER clickstream_run_finished AFTER UPDATE OF state ON public.dag_run FOR EACH ROW
    WHEN (NEW.state IN ('success', 'failed') AND coalesce(OLD.state, '') NOT IN ('success', 'failed'))
    EXECUTE FUNCTION clickstream.count_run();
"""

DOWNGRADE = """
SET LOCAL lock_timeout = '5s';
DROP TRIGGER IF EXISTS clickstream_run_finished ON public.dag_run;
DROP TRIGGER IF EXISTS clickstream_task_added ON public.task_instance;
DROP TRIGGER IF EXISTS clickstream_task_finished ON public.task_instance;
DROP FUNCTION clickstream.count_run(), clickstream.count_added_tasks(), clickstream.count_task();
"""


def upgrade() -> None:
    """Apply."""
    op.execute(UPGRADE)


def downgrade() -> None:
    """Undo; the counters stay as they are."""
    op.execute(DOWNGRADE)
