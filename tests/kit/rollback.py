"""A database that tests share, as each of them takes back what it has written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg import sql

from infra.bootstrap.roles import WRITER
from tests.kit.pipeline import Pipeline


class RolledBack(Pipeline):
    """Another's database in one transaction, in which the library's own are savepoints; no other connection sees it.

    Time stands still in it, and what a statement breaks it breaks to the end, unless it stands in a `transaction()`.
    """

    @classmethod
    @contextmanager
    def on_that_of(cls, pipeline: Pipeline) -> Iterator[Self]:
        with transaction(pipeline) as conn:
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")  # there is no commit at which they would be looked at
            made = cls(pipeline.stack, pipeline.settings, pipeline.database, pipeline.dsn, conn)
            made._act_as(WRITER)
            yield made

    @contextmanager
    def acting_as(self, role: str) -> Iterator[psycopg.Connection[Any]]:
        """The connection, with the rights of another role in the block; what it writes there is gone after it."""
        with self.conn.transaction(force_rollback=True):
            self._act_as(role)
            yield self.conn

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection, with all rights in the block."""
        self.conn.execute("RESET SESSION AUTHORIZATION")
        yield self.conn
        self._act_as(WRITER)

    def _act_as(self, role: str) -> None:
        self.conn.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(role)))


@contextmanager
def transaction(pipeline: Pipeline) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's on a pipeline's database, of which nothing stays."""
    with pipeline.superuser() as conn, conn.transaction(force_rollback=True):
        yield conn
