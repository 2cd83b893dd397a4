"""A connection to the ledger for what is served: read soon or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from psycopg import Connection

from clickstream.orchestration import DATABASE

CONNECT_TIMEOUT_SECONDS = 2


@contextmanager
def ledger_reader() -> Iterator[Connection[Any]]:
    """A connection to the ledger that gives up soon instead of holding the scrape."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook  # noqa: PLC0415 - slow, needed by a scrape only

    given = deepcopy(PostgresHook.get_connection(DATABASE))
    given.extra = json.dumps({"connect_timeout": CONNECT_TIMEOUT_SECONDS} | given.extra_dejson)
    connection: Any = PostgresHook(DATABASE, connection=given).get_conn()
    with connection:
        connection.autocommit = True
        yield connection
