"""Lines of an access log."""

from __future__ import annotations

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0"
TIME = "17/May/2015:10:05:03 +0000"
EPOCH = 1_431_857_103


def line_of(
    *,
    address: str = "83.149.9.216",
    user: str = "-",
    time: str = TIME,
    request: str = "GET /a?b=1 HTTP/1.1",
    referrer: str = "-",
    agent: str = FIREFOX,
) -> bytes:
    return f'{address} - {user} [{time}] "{request}" 200 512 "{referrer}" "{agent}"'.encode()
