"""Several reads of the ledger as of one moment, each of them soon or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection


@contextmanager
def snapshot(conn: Connection[Any], *, statement_timeout_ms: int) -> Iterator[None]:
    """A read-only transaction whose statements all see the same state.

    Args:
        conn: Connection outside of a transaction.
        statement_timeout_ms: Longest that one statement may take, waiting for locks included.

    Raises:
        psycopg.Error: The ledger can't be read, or a statement took longer.
    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        conn.execute("SELECT set_config('statement_timeout', %s, true)", [str(statement_timeout_ms)])
        yield
