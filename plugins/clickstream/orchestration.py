"""What every DAG shares: connections, defaults of tasks, the asset between the DAGs, errors that end a task."""

from __future__ import annotations

import json
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException

from clickstream.errors import ClickstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

DATABASE = "clickstream_db"
SPARK = "clickstream_spark"
RAW_ZONE = Asset("clickstream_raw_zone")
CONNECT_TIMEOUT_SECONDS = 10

TASK_DEFAULTS: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=2),
}


@contextmanager
def connection(*, timeout_seconds: int) -> Iterator[Connection[Any]]:
    """A connection as `clickstream_writer`; transactions are only those that the ledger's functions open.

    Args:
        timeout_seconds: How long connecting may take.

    Raises:
        psycopg.OperationalError: PostgreSQL can't be reached.
    """
    from airflow.providers.postgres.hooks.postgres import PostgresHook  # noqa: PLC0415 - kept out of DAG parsing

    given = deepcopy(PostgresHook.get_connection(DATABASE))
    given.extra = json.dumps({"connect_timeout": timeout_seconds} | given.extra_dejson)
    opened: Any = PostgresHook(DATABASE, connection=given).get_conn()
    with opened:
        opened.autocommit = True
        yield opened


@contextmanager
def ledger() -> Iterator[Connection[Any]]:
    """A connection for a task: an error that trying again can't cure ends it at once, whatever its retries."""
    with connection(timeout_seconds=CONNECT_TIMEOUT_SECONDS) as opened:
        try:
            yield opened
        except ClickstreamError as error:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
