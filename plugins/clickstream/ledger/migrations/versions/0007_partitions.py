"""Windows, sessions' hours and users by hour in partitions, which retention drops instead of deleting their rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from alembic import op
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WINDOWS = (
    "traffic_by_window", "pages_by_window", "audience_by_window", "funnel_by_window", "revenue_by_window",
    "sessions_by_window",
)  # fmt: skip
HOURS = ("session_hours", "users_by_hour")
BACK = {"month": "12 months", "year": "4 years"}  # existing rows before that go to the default partition

# The views and functions that need these tables, the nearest first, with what makes them what they are.
DEPENDENTS = """
WITH RECURSIVE found (class, object, depth) AS (
    SELECT 'pg_class'::regclass::oid, c.oid, 0 FROM pg_class c
    WHERE c.relnamespace = 'analytics'::regnamespace AND c.relname = ANY(%(tables)s)
    UNION
    SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(r.ev_class, d.objid),
           f.depth + 1
    FROM found f
    JOIN pg_depend d ON d.refclassid = f.class AND d.refobjid = f.object
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    WHERE d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass) AND r.ev_class IS DISTINCT FROM f.object
), needed AS (
    SELECT class, object, max(depth) AS depth FROM found WHERE depth > 0 GROUP BY class, object
)
SELECT format('VIEW %%s', c.oid::regclass),
       format('CREATE VIEW %%s %%s AS %%s', c.oid::regclass,
              'WITH (' || array_to_string(c.reloptions, ', ') || ')', pg_get_viewdef(c.oid)),
       c.relacl, c.relowner, ARRAY(
           SELECT format(CASE WHEN d.objsubid = 0 THEN 'COMMENT ON VIEW %%1$s IS %%3$L'
                              ELSE 'COMMENT ON COLUMN %%1$s.%%2$I IS %%3$L' END,
                         c.oid::regclass, a.attname, d.description)
           FROM pg_description d LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid
           WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid ORDER BY d.objsubid),
       n.depth
FROM needed n JOIN pg_class c ON n.class = 'pg_class'::regclass AND c.oid = n.object
UNION ALL
SELECT format('FUNCTION %%s', p.oid::regprocedure), pg_get_functiondef(p.oid), p.proacl, p.proowner, ARRAY(
           SELECT format('COMMENT ON FUNCTION %%s IS %%L', p.oid::regprocedure, d.description)
           FROM pg_description d WHERE d.classoid = 'pg_proc'::regclass AND d.objoid = p.oid),
       n.depth
FROM needed n JOIN pg_proc p ON n.class = 'pg_proc'::regclass AND p.oid = n.object
ORDER BY depth
"""

GRANTS = """
SELECT coalesce(quote_ident(r.rolname), 'PUBLIC'), a.privilege_type, a.is_grantable
FROM aclexplode(%(acl)s::aclitem[]) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.grantee <> %(owner)s
"""

KEYS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %(table)s::regclass AND contype IN ('p', 'u') ORDER BY contype, conname
"""

# Of the index of a partitioned table it says ON ONLY, which would leave the partitions without it.
INDEXES = """
SELECT regexp_replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') FROM pg_index i
WHERE i.indrelid = %(table)s::regclass AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
ORDER BY 1
"""

PARTITIONS = """
CREATE FUNCTION analytics.add_partition(parent text, since timestamptz, until timestamptz) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    a_year boolean := until - since > interval '31 days';
    made text := parent || to_char(since, CASE WHEN a_year THEN '_YYYY' ELSE '_YYYY_MM' END);
    key text := CASE WHEN parent ~ '_by_window_' THEN 'window_start' ELSE 'hour' END;
    options text;
BEGIN
    IF to_regclass(format('analytics.%I', made)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(o, ', ') INTO options
    FROM pg_class c, unnest(c.reloptions) o WHERE c.oid = format('analytics.%I', parent || '_default')::regclass;
    EXECUTE format('CREATE TABLE analytics.%I (LIKE analytics.%I INCLUDING ALL) %s',
                   made, parent, 'WITH (' || options || ')');
    EXECUTE format(
        'WITH moved AS (DELETE FROM analytics.%1$I WHERE %3$I >= $1 AND %3$I < $2 RETURNING *)'
        ' INSERT INTO analytics.%2$I SELECT * FROM moved', parent || '_default', made, key) USING since, until;
    EXECUTE format('ALTER TABLE analytics.%I ATTACH PARTITION analytics.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, made, since, until);
    RETURN made;
END
$$;
REVOKE EXECUTE ON FUNCTION analytics.add_partition(text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION analytics.add_partition(text, timestamptz, timestamptz) IS
    'Makes one partition and moves the rows there that the default partition has of its range; null if there is one.';

CREATE FUNCTION analytics.add_partitions(until timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    parent text;
    step interval;
    since timestamptz;
    made text;
BEGIN
    IF until IS NULL OR until > now() + interval '5 years' THEN
        RAISE 'partitions are made for at most five years ahead, not until %', until USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('analytics'));
    FOR parent, step IN
        SELECT t || '_5', interval '1 month' FROM unnest('{windows}'::text[]) t
        UNION ALL SELECT t || '_60', interval '1 year' FROM unnest('{windows}'::text[]) t
        UNION ALL SELECT t, interval '1 month' FROM unnest('{hours}'::text[]) t
    LOOP
        since := date_trunc(CASE step WHEN interval '1 year' THEN 'year' ELSE 'month' END, now() - interval '1 month');
        WHILE since <= until LOOP
            made := analytics.add_partition(parent, since, since + step);
            IF made IS NOT NULL THEN
                RETURN NEXT made;
            END IF;
            since := since + step;
        END LOOP;
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION analytics.add_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.add_partitions(timestamptz) TO clickstream_writer;
COMMENT ON FUNCTION analytics.add_partitions(timestamptz) IS
    'Makes the partitions that are missing from a month ago up to this time, and returns their names. Rows of theirs in'
    ' a default partition are moved.';

-- Autovacuum analyzes partitions, but never the tables they are of.
CREATE FUNCTION analytics.analyze_partitions() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY '{windows},{hours}'::text[] LOOP
        EXECUTE format('ANALYZE analytics.%I', parent);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION analytics.analyze_partitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.analyze_partitions() TO clickstream_writer;
COMMENT ON FUNCTION analytics.analyze_partitions() IS
    'Takes the statistics by which queries over all partitions of a table are planned.';

CREATE VIEW ledger.result_partitions AS
SELECT root.name AS table_name, c.relname::text AS partition,
       substring(pg_get_expr(p.relpartbound, p.oid) FROM 'IN \\(''?([0-9]+)')::smallint AS window_minutes,
       substring(b.bound FROM 'FROM \\(''([^'']+)''')::timestamptz AS since,
       substring(b.bound FROM 'TO \\(''([^'']+)''')::timestamptz AS until,
       pg_total_relation_size(c.oid) AS bytes
FROM unnest('{windows},{hours}'::text[]) WITH ORDINALITY root (name, place)
CROSS JOIN LATERAL pg_partition_tree(('analytics.' || root.name)::regclass) tree
JOIN pg_class c ON c.oid = tree.relid
JOIN pg_class p ON p.oid = tree.parentrelid
CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
WHERE tree.isleaf;
COMMENT ON VIEW ledger.result_partitions IS
    'Partitions that hold rows of the results: since (inclusive) and until are null for a default partition, which has'
    ' the rows that no other one is for.';
COMMENT ON COLUMN ledger.result_partitions.window_minutes IS
    'Width of its windows in minutes; null for hours, and for windows of other widths than 5 and 60.';
COMMENT ON COLUMN ledger.result_partitions.bytes IS 'Size on disk with indexes.';

CREATE FUNCTION analytics.drop_partition(name text, ended_by timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET lock_timeout = '5s' AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM ledger.result_partitions p
        WHERE p.partition = name AND p.until <= ended_by AND p.until <= now()) THEN
        RAISE 'no partition % of the results ended by %', name, ended_by USING ERRCODE = '42P01';
    END IF;
    EXECUTE format('DROP TABLE analytics.%I', name);
END
$$;
REVOKE EXECUTE ON FUNCTION analytics.drop_partition(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.drop_partition(text, timestamptz) TO clickstream_writer;
COMMENT ON FUNCTION analytics.drop_partition(text, timestamptz) IS
    'Drops a partition of the results whose range ended by this time; a default partition never.';
"""

UNDO_PARTITIONS = """
DROP FUNCTION analytics.drop_partition(text, timestamptz);
DROP VIEW ledger.result_partitions;
DROP FUNCTION analytics.analyze_partitions(), analytics.add_partitions(timestamptz),
    analytics.add_partition(text, timestamptz, timestamptz);
"""

OF_WINDOWS = """
CREATE TABLE analytics.{0}_5 PARTITION OF analytics.{0} FOR VALUES IN (5) PARTITION BY RANGE (window_start);
CREATE TABLE analytics.{0}_5_default PARTITION OF analytics.{0}_5 DEFAULT;
CREATE TABLE analytics.{0}_60 PARTITION OF analytics.{0} FOR VALUES IN (60) PARTITION BY RANGE (window_start);
CREATE TABLE analytics.{0}_60_default PARTITION OF analytics.{0}_60 DEFAULT;
CREATE TABLE analytics.{0}_default PARTITION OF analytics.{0} DEFAULT;
"""

OF_HOURS = "CREATE TABLE analytics.{0}_default PARTITION OF analytics.{0} DEFAULT {1};"

FILLED = """
SELECT analytics.add_partition(%(parent)s, since, since + %(step)s::interval)
FROM (SELECT DISTINCT date_trunc(%(unit)s, {key}) AS since FROM analytics.former
      WHERE {key} BETWEEN now() - %(back)s::interval AND now() AND {rows}) f
"""


def upgrade() -> None:
    """Apply: every row is copied, so for its time the database needs the tables' room twice."""
    with _rebuilding() as conn:
        conn.execute(
            PARTITIONS.replace("{windows}", "{" + ",".join(WINDOWS) + "}")
            .replace("{hours}", "{" + ",".join(HOURS) + "}")
            .replace("},{", ",")
            .encode()
        )
        for table in WINDOWS:
            with _replacing(conn, table, "PARTITION BY LIST (window_minutes)"):
                conn.execute(OF_WINDOWS.format(table).encode())
                _add_past(conn, f"{table}_5", "window_start", "month", 5)
                _add_past(conn, f"{table}_60", "window_start", "year", 60)
        for table in HOURS:
            with _replacing(conn, table, "PARTITION BY RANGE (hour)") as options:
                conn.execute(OF_HOURS.format(table, options).encode())
                _add_past(conn, table, "hour", "month")
        conn.execute("SELECT analytics.add_partitions(now() + interval '2 months')")
        conn.execute("SELECT analytics.analyze_partitions()")


def downgrade() -> None:
    """Undo: every row is copied back."""
    with _rebuilding() as conn:
        conn.execute(UNDO_PARTITIONS)
        for table in (*WINDOWS, *HOURS):
            with _replacing(conn, table, "") as options:
                if options:
                    conn.execute(f"ALTER TABLE analytics.{table} SET {options.removeprefix('WITH ')}".encode())
            conn.execute(f"ANALYZE analytics.{table}".encode())


@contextmanager
def _rebuilding() -> Iterator[Connection[Any]]:
    """Take away what depends on the tables, and bring it back as it was after the block."""
    conn = cast("Connection[Any]", op.get_bind().connection.driver_connection)
    before = conn.execute("SELECT current_setting('search_path'), current_setting('TimeZone')").fetchone()
    conn.execute("SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL TimeZone = 'UTC'")
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('analytics'))")
    for table in (*WINDOWS, *HOURS):
        conn.execute(f"LOCK TABLE analytics.{table} IN ACCESS EXCLUSIVE MODE".encode())
    dependents = conn.execute(DEPENDENTS, {"tables": [*WINDOWS, *HOURS]}).fetchall()
    for name, *_ in reversed(dependents):
        conn.execute(f"DROP {name}".encode())
    yield conn
    for name, definition, acl, owner, comments, _ in dependents:
        conn.execute(definition.encode())
        _grant(conn, name, acl, owner)
        for comment in comments:
            conn.execute(comment.encode())
    conn.execute("SELECT set_config('search_path', %s, true), set_config('TimeZone', %s, true)", before)


@contextmanager
def _replacing(conn: Connection[Any], table: str, partitioning: str) -> Iterator[str]:
    """Make a table anew, with the same columns, checks, comments, grants, rows and indexes.

    The block makes its partitions, while the rows are in `analytics.former`.

    Args:
        conn: Connection in the migration's transaction.
        table: Name of the table.
        partitioning: The clause PARTITION BY, or nothing.

    Yields:
        The storage parameters of its rows as a clause WITH, or nothing.
    """
    name = f"analytics.{table}"
    ((acl, owner, comment, options),) = conn.execute(
        "SELECT c.relacl, c.relowner, quote_literal(obj_description(c.oid, 'pg_class')),"
        " coalesce('WITH (' || array_to_string(storage.reloptions, ', ') || ')', '')"
        " FROM pg_class c, pg_class storage WHERE c.oid = %(table)s::regclass"
        " AND storage.oid = coalesce(to_regclass(%(table)s || '_default'), c.oid)",
        {"table": name},
    ).fetchall()
    keys = conn.execute(KEYS, {"table": name}).fetchall()
    indexes = conn.execute(INDEXES, {"table": name}).fetchall()
    conn.execute(f"ALTER TABLE {name} RENAME TO former".encode())
    conn.execute(
        f"CREATE TABLE {name} (LIKE analytics.former INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS"
        f" INCLUDING STORAGE) {partitioning}".encode()
    )
    conn.execute(f"COMMENT ON TABLE {name} IS {comment}".encode())
    _grant(conn, name, acl, owner)
    yield options
    conn.execute(sql.SQL("INSERT INTO {} SELECT * FROM analytics.former").format(sql.Identifier("analytics", table)))
    conn.execute("DROP TABLE analytics.former")
    for key, definition in keys:
        conn.execute(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                sql.Identifier("analytics", table), sql.Identifier(key), sql.SQL(definition)
            )
        )
    for (definition,) in indexes:
        conn.execute(definition.encode())


def _add_past(conn: Connection[Any], parent: str, key: str, unit: str, minutes: int | None = None) -> None:
    """Make partitions for the months or years that have rows and aren't too old."""
    rows = sql.SQL("window_minutes = {}").format(sql.Literal(minutes)) if minutes else sql.SQL("true")
    conn.execute(
        sql.SQL(FILLED).format(key=sql.Identifier(key), rows=rows),
        {"parent": parent, "unit": unit, "step": f"1 {unit}", "back": BACK[unit]},
    )


def _grant(conn: Connection[Any], name: str, acl: str | None, owner: int) -> None:
    """Give what was made the grants it had, in place of those that it has by default."""
    if acl is None:
        return
    conn.execute(f"REVOKE ALL ON {name.removeprefix('VIEW ')} FROM PUBLIC, clickstream_writer, grafana_reader".encode())
    for grantee, privilege, grantable in conn.execute(GRANTS, {"acl": acl, "owner": owner}).fetchall():
        option = " WITH GRANT OPTION" if grantable else ""
        conn.execute(f"GRANT {privilege} ON {name.removeprefix('VIEW ')} TO {grantee}{option}".encode())
