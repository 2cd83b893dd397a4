"""Whether the drain may start: not while a component that it can't do without is known to be down."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from clickstream.ledger import health as ledger_health

if TYPE_CHECKING:
    from psycopg import Connection

log = logging.getLogger(__name__)

NEEDED = ("kafka", "postgresql", "storage")
FRESH = timedelta(minutes=10)  # two intervals of check_health: an older row says nothing of now


def is_open(conn: Connection[Any]) -> bool:
    """Whether no needed component is freshly known to be down; logs which is, since when and why."""
    outages = ledger_health.outages(conn, NEEDED, FRESH)
    for outage in outages:
        log.warning(
            "Waiting, because %s is down since %s (checked at %s): %s",
            outage.component,
            f"{outage.since:%Y-%m-%d %H:%M:%S} UTC",
            f"{outage.checked_at:%H:%M:%S}",
            outage.reason,
        )
    return not outages
