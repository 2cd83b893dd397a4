"""Migrations are reversible, repeatable, and leave each role what it needs and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from infra.local.stack import Stack
from tests.kit.pipeline import Pipeline
from tests.kit.services import migrate, superuser

SCHEMA = """
SELECT table_schema || '.' || table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns
WHERE table_schema IN ('ledger', 'analytics') ORDER BY 1
"""


@pytest.fixture(scope="module")
def untouched(services: Stack, template: str) -> Iterator[psycopg.Connection[Any]]:
    """The writer's connection to one database for all tests that leave it as it is."""
    with Pipeline.new(services, template) as pipeline:
        yield pipeline.conn


def test_down_and_up_again_give_the_same_schema(pipeline: Pipeline) -> None:
    database = pipeline.database
    before = pipeline.conn.execute(SCHEMA).fetchall()
    assert before
    pipeline.conn.close()
    migrate(pipeline.stack, database, "down", "base")
    with superuser(pipeline.stack, database) as conn:
        assert conn.execute(SCHEMA).fetchall() == []
    migrate(pipeline.stack, database, "up")
    migrate(pipeline.stack, database, "up")
    assert "(head)" in migrate(pipeline.stack, database, "status")
    pipeline.conn = pipeline.connect()
    assert pipeline.conn.execute(SCHEMA).fetchall() == before


def test_no_row_is_deleted_by_reading_the_whole_of_a_table_that_refers_to_it(
    untouched: psycopg.Connection[Any],
) -> None:
    slow = untouched.execute(
        "SELECT k.conrelid::regclass::text, k.conname FROM pg_constraint k"
        " WHERE k.contype = 'f' AND k.connamespace = 'ledger'::regnamespace AND k.conparentid = 0"
        " AND has_table_privilege('clickstream_writer', k.confrelid, 'DELETE')"
        " AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indpred IS NULL"
        " AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)"
    ).fetchall()
    assert slow == []


def test_every_table_and_column_of_the_results_is_explained(untouched: psycopg.Connection[Any]) -> None:
    silent = untouched.execute(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace IN ('ledger'::regnamespace, 'analytics'::regnamespace)"
        " AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND obj_description(c.oid) IS NULL UNION ALL"
        " SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'analytics'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0"
        " AND NOT c.relispartition AND col_description(c.oid, a.attnum) IS NULL"
    ).fetchall()
    assert silent == []


@pytest.mark.parametrize("statement", ["DELETE FROM ledger.partitions", "DROP SCHEMA ledger CASCADE"])
def test_the_writer_neither_deletes_progress_nor_changes_the_schema(
    untouched: psycopg.Connection[Any], statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        untouched.execute(statement)
