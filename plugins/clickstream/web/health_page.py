"""The page `Pipeline health` of the Airflow UI: `GET /clickstream/health`, and what it shows as JSON."""

# No postponed annotations: FastAPI reads them at run time.

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import bearer_scheme
from airflow.sdk.exceptions import AirflowException
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, status
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.security import HTTPAuthorizationCredentials
from psycopg import Error

from clickstream.ledger import overview
from clickstream.orchestration import connection
from clickstream.settings import PageSettings
from clickstream.web import CONNECT_TIMEOUT_SECONDS
from clickstream.web.access import require_person
from clickstream.web.verdicts import verdicts

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter()


@router.get("/health")
async def page(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
) -> Response:
    """Return the page; who is not logged in is sent to Airflow's login, and comes back from there."""
    try:
        await require_person(request, bearer)
    except HTTPException as refused:
        if refused.status_code != status.HTTP_401_UNAUTHORIZED:
            raise
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"../api/v2/auth/login?{urlencode({'next': back})}", headers=HEADERS)
    return FileResponse(STATIC / "health.html", headers=HEADERS)


@router.get("/static/{name}")
def static(name: Literal["health.css", "health.js", "icon.svg"]) -> Response:
    """Return a part of the page; these hold no data and are open."""
    return FileResponse(STATIC / name, headers=HEADERS)


@router.get("/health/state", dependencies=[Depends(require_person)])
def state(
    response: Response,
    batch: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    drain_run: Annotated[str | None, Query(max_length=250)] = None,
) -> dict[str, Any]:
    """Return what the page shows as of this moment: the fields of `Overview`, `verdicts` and `grafana_url`.

    Raises:
        HTTPException: 503 if the ledger can't be read in time.
    """
    response.headers.update({**HEADERS, "Cache-Control": "no-store"})
    try:
        with connection(timeout_seconds=CONNECT_TIMEOUT_SECONDS) as conn:
            seen = overview.read(conn, batch_id=batch, drain_run=drain_run)
    except (Error, AirflowException) as error:
        log.exception("The ledger can't be read, so the page shows no new state. Check connection and database.")
        raise HTTPException(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            f"The ledger can't be read ({type(error).__name__}). Check that PostgreSQL is up and the connection"
            " clickstream_db right; the API server's log has the reason.",
        ) from error
    return {
        **vars(seen),
        "verdicts": [asdict(one) for one in verdicts(seen)],
        "grafana_url": PageSettings().grafana_url,
    }
