"""Delivery to Kafka: all records acknowledged by all in-sync replicas, or an error that counts the others."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from clickstream_source.access import AccessError, security_options
from clickstream_source.settings import KafkaSettings

Headers = list[tuple[str, bytes]]
HISTORIC: Headers = [("clickstream-load", b"historic")]

# The client's buffer has no limit of its own, so records in flight are what bounds the memory.
_MAX_IN_FLIGHT = 5_000
_GRACE_SECONDS = 5.0


class Record(NamedTuple):
    """A record before it has coordinates."""

    key: bytes
    value: bytes


class DeliveryError(RuntimeError):
    """Not every record was acknowledged; the message gives the count, the first error and what to do."""


@dataclass(slots=True)
class Delivered:
    """What the brokers acknowledged: the number of records and the last offset, by partition."""

    records: Counter[int] = field(default_factory=Counter)
    last_offsets: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Records acknowledged in all partitions."""
        return self.records.total()


def deliver(
    records: Iterable[Record],
    *,
    total: int,
    settings: KafkaSettings,
    remedy: str,
    headers: Headers | None = None,
    on_acknowledged: Callable[[], None] = lambda: None,
) -> Delivered:
    """Produce records with acks=all from one idempotent producer and wait for each acknowledgement.

    Sending stops at the first record that fails; what is in flight then is still awaited and counted.

    Args:
        records: consumed as they are sent, at most 5,000 ahead of the acknowledgements.
        total: how many records there are; fewer acknowledgements are an error.
        settings: brokers, topic and time-out.
        remedy: what a person should do after a failure, the end of the error's message.
        headers: Kafka headers of every record.
        on_acknowledged: called after each acknowledged record.

    Raises:
        DeliveryError: fewer than `total` records were acknowledged.
    """
    delivered = Delivered()
    if total == 0:
        return delivered
    first_error: Exception | None = None
    close_error: KafkaError | None = None
    try:
        producer = _connect(settings)
        try:
            first_error = _send(
                producer,
                records,
                settings=settings,
                headers=headers or [],
                delivered=delivered,
                on_acknowledged=on_acknowledged,
            )
        finally:
            close_error = _close(producer)
    except (KafkaError, AccessError) as error:
        first_error = error
    if delivered.total != total:
        trust = ", and that its user and authority are those in the settings" if settings.is_secured else ""
        cause = first_error or close_error
        reason = f"first error: {cause}" if cause else "the source held another number"
        raise DeliveryError(
            f"{total - delivered.total:,} of {total:,} records were not acknowledged by topic "
            f"{settings.topic!r} at {settings.bootstrap_servers} ({reason}). "
            f"Check that the brokers run and the topic exists (`make status`){trust}. {remedy}"
        ) from cause
    return delivered


def _connect(settings: KafkaSettings) -> Any:  # noqa: ANN401 - the client has no types
    try:
        return _producer(settings)
    except KafkaError:
        # Password or authority may be others by now. The client only says that its time is up, so the next invocation
        # reads them anew, whatever it was.
        security_options.cache_clear()
        raise


def _producer(settings: KafkaSettings) -> Any:  # noqa: ANN401 - the client has no types
    timeout_ms = int(settings.delivery_timeout_seconds * 1000)
    return KafkaProducer(
        **security_options(settings),
        bootstrap_servers=settings.bootstrap_servers.split(","),
        client_id="clickstream-source",
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        compression_type="gzip",
        linger_ms=10,
        batch_size=64 * 1024,
        bootstrap_timeout_ms=timeout_ms,
        max_block_ms=timeout_ms,
        delivery_timeout_ms=timeout_ms,
        request_timeout_ms=timeout_ms // 2,
    )


def _close(producer: Any) -> KafkaError | None:  # noqa: ANN401 - the client has no types
    """Close within a bounded time and return the error that kept it from ending in order, if any."""
    try:
        producer.close(timeout=_GRACE_SECONDS)
    except KafkaError as error:
        # Here close() gave up without stopping the client's thread, which would go on sending behind our back.
        sender = producer._sender  # noqa: SLF001 - the client has no public way
        sender.force_close()
        sender.join(_GRACE_SECONDS)
        producer.close(timeout=0)
        return error
    return None


def _send(
    producer: Any,  # noqa: ANN401 - the client has no types
    records: Iterable[Record],
    *,
    settings: KafkaSettings,
    headers: Headers,
    delivered: Delivered,
    on_acknowledged: Callable[[], None],
) -> KafkaError | None:
    """Send all records, count their acknowledgements, and return the first error after the last answer."""
    in_flight: deque[Any] = deque()
    first_error: KafkaError | None = None
    last_sent = time.monotonic()

    def settle() -> None:
        nonlocal first_error
        # The client gives a batch up after the delivery time-out; the grace is for a client that hangs.
        deadline = last_sent + settings.delivery_timeout_seconds + _GRACE_SECONDS
        try:
            metadata = in_flight.popleft().get(timeout=max(0.0, deadline - time.monotonic()))
        except KafkaError as error:
            first_error = first_error or error
            return
        delivered.records[metadata.partition] += 1
        last_offset = delivered.last_offsets.get(metadata.partition, -1)
        delivered.last_offsets[metadata.partition] = max(last_offset, metadata.offset)
        on_acknowledged()

    try:
        for record in records:
            in_flight.append(producer.send(settings.topic, key=record.key, value=record.value, headers=headers))
            last_sent = time.monotonic()
            if len(in_flight) >= _MAX_IN_FLIGHT:
                settle()
            if first_error:
                break
    except KafkaError as error:
        first_error = error
    while in_flight:
        settle()
    return first_error
