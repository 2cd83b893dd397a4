"""HTTP for the checks: an answer soon, or an error that names the address."""

from __future__ import annotations

import httpx

TIMEOUT_SECONDS = 5.0  # of each read and write; a check's deadline bounds the whole


class NoAnswer(ConnectionError):  # noqa: N818 - reads as the statement that there is none
    """A server that can't be reached, or one that refuses."""


def fetch(url: str, *, token: str | None = None) -> httpx.Response:
    """Get a URL, with a bearer token where one is given.

    Raises:
        NoAnswer: If there is no answer, or one with an error code.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=TIMEOUT_SECONDS)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NoAnswer(f"{url} does not answer ({type(error).__name__}: {error}).") from error
    if not answer.is_success:
        raise NoAnswer(f"{url} answers {answer.status_code}: {answer.text[:200]!r}.")
    return answer
