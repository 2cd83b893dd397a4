"""PostgreSQL: a real write that is committed and read back, its connections, and the disk it lies on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream.health import disk
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.ledger import health as ledger_health

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CONNECTIONS_FRACTION = 0.8
STATEMENT_TIMEOUT_MS = 5_000


def look(installation: Installation) -> Finding:
    """Connect, write, count the connections.

    Raises:
        psycopg.Error: It can't be reached, or refuses the write.
    """
    with installation.connect() as conn:
        ledger_health.limit_statements(conn, STATEMENT_TIMEOUT_MS)
        ledger_health.write(conn)
        connections = ledger_health.connections(conn)
    found = f"Written and read back; {connections.used} of {connections.most} connections in use"
    problems = [*_connection_problems(connections)]
    if folder := installation.settings.database_folder:
        found += f"; {disk.free(folder)}"
        problems += disk.problems(folder, "the database")
    return finding(f"{found}.", problems)


def _connection_problems(connections: ledger_health.Connections) -> Iterator[Problem]:
    if connections.used > MOST_CONNECTIONS_FRACTION * connections.most:
        yield Problem(
            Status.DEGRADED,
            f"More than {MOST_CONNECTIONS_FRACTION:.0%} of the connections are in use: close idle ones"
            " (pg_stat_activity shows whose they are), or raise max_connections.",
        )


CHECK = Check(
    component="postgresql",
    look=look,
    remedy=(
        "See whether the server of connection clickstream_db runs, its log, its locks (pg_locks) and its load, and"
        " whether clickstream_writer may write the schema ledger."
    ),
    slow_seconds=1,
    deadline_seconds=15,
)
