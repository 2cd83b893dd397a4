"""Make landed files segments of the ledger, and tell Kafka's tools where the pipeline stands."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaError

from clickstream import broker, storage
from clickstream.errors import StaleAttempt
from clickstream.ledger import drains

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg import Connection

    from clickstream.ledger.drains import Landing
    from clickstream.settings import Settings

log = logging.getLogger(__name__)


def commit(conn: Connection[Any], settings: Settings, attempts: Sequence[UUID]) -> int:
    """Commit the attempts' landings; returns how many segments are recorded, now or before.

    Raises:
        StaleAttempt: After all that could be recorded is, if an attempt came too late somewhere.
    """
    segments = 0
    stale = []
    for attempt_id in attempts:
        try:
            done = drains.commit(conn, attempt_id, _verify)
        except StaleAttempt as error:
            stale.append(str(error))
        else:
            log.info("attempt %s: %s segments recorded, %s were already", attempt_id, done.recorded, done.already)
            segments += done.recorded + done.already
    try:
        broker.advise_group_offsets(settings, drains.next_offsets(conn, settings.topic))
    except KafkaError:
        log.warning("Kafka's group offsets do not follow; the ledger is right all the same", exc_info=True)
    if stale:
        raise StaleAttempt("\n".join(stale))
    return segments


def _verify(landings: Sequence[Landing]) -> None:
    storage.verify(
        storage.WrittenFile(landing.path, landing.records, landing.bytes or 0) for landing in landings if landing.path
    )
