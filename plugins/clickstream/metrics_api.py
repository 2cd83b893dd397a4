"""`GET /clickstream/metrics` on Airflow's API server, for Prometheus and for people who are logged in."""

# No postponed annotations: FastAPI reads them at run time.

import hmac
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_view
from fastapi import Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from psycopg import Connection

from clickstream.metrics import LedgerCollector
from clickstream.orchestration import DATABASE
from clickstream.settings import MetricsSettings

CONNECT_TIMEOUT_SECONDS = 2

log = logging.getLogger(__name__)

# No generated documentation: its pages would be open to everyone.
app = FastAPI(title="Clickstream", docs_url=None, redoc_url=None, openapi_url=None)


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


def scrape_token() -> str | None:
    """Prometheus' token, read anew so that a rotated file counts at once; None where no file is named.

    Raises:
        HTTPException: 503 if the file can't be read or is empty; an empty token must never let anyone in.
    """
    path = MetricsSettings().metrics_token_file
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        log.exception("CLICKSTREAM_METRICS_TOKEN_FILE is %s, which can't be read. Create it with mode 0600.", path)
        reason = f"can't be read ({type(error).__name__})"
    else:
        if token:
            return token
        log.error("CLICKSTREAM_METRICS_TOKEN_FILE is %s, which is empty. Write a long random token to it.", path)
        reason = "is empty"
    raise HTTPException(
        status.HTTP_503_SERVICE_UNAVAILABLE,
        f"The file that CLICKSTREAM_METRICS_TOKEN_FILE names {reason}; the API server's log has its path.",
    )


async def require_reader(
    request: Request,
    token: Annotated[str | None, Depends(scrape_token)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)],
) -> None:
    """Let in whoever has the token of the scrape, else whoever Airflow lets see its plugins.

    Raises:
        HTTPException: 401 for the anonymous, 403 for a wrong token or a user without the permission.
    """
    if token and bearer and hmac.compare_digest(bearer.credentials.encode(), token.encode()):
        return
    user = await get_user(request, bearer_credentials=bearer)
    requires_access_view(AccessView.PLUGINS)(request, user)


@app.get("/metrics", dependencies=[Depends(require_reader)])
def metrics() -> Response:
    """Return the pipeline's metrics in Prometheus' text format."""
    return Response(generate_latest(LedgerCollector(ledger_reader)), media_type=CONTENT_TYPE_PLAIN_0_0_4)
