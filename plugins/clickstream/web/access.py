"""Who may read what the pipeline serves: Prometheus with its token, and people who are logged in to Airflow."""

# No postponed annotations: FastAPI reads them at run time.

import hmac
import logging
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_view
from fastapi import Depends, HTTPException, Request, status
from fastapi.security import HTTPAuthorizationCredentials

from clickstream.settings import MetricsSettings

log = logging.getLogger(__name__)


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
    await require_person(request, bearer)


async def require_person(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
) -> None:
    """Let in whoever is logged in to Airflow and may see its plugins.

    Raises:
        HTTPException: 401 for the anonymous, 403 for a user without the permission.
    """
    user = await get_user(request, bearer_credentials=bearer)
    requires_access_view(AccessView.PLUGINS)(request, user)
