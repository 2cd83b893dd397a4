"""The Lambda that makes a minute of clickstream: archived first, then produced to Kafka.

EventBridge calls `handler` once a minute. Everything follows from the event and the environment: the same
invocation makes the same events with the same ids, so calling it again after a failure is always right.

Settings, by environment variables: `KAFKA_BOOTSTRAP_SERVERS` and `ARCHIVE_URL` are required, `TOPIC` and
`KAFKA_DELIVERY_TIMEOUT_SECONDS` optional. Where Kafka asks for a user, `KAFKA_CREDENTIALS_SECRET` names its secret
and `KAFKA_CA_PARAMETER` the authority of the brokers' certificates (`KAFKA_CREDENTIALS_FILE` and `KAFKA_CA_FILE` off
AWS); both are read at the first invocation, and anew when Kafka refuses them. The rate is
`GENERATOR_EVENTS_PER_MINUTE`, averaged over a day; the shape is `GENERATOR_PRODUCER_ID`,
`GENERATOR_DAY_NIGHT_AMPLITUDE`, `GENERATOR_USERS`, `GENERATOR_VIEW_TO_CART_RATE`,
`GENERATOR_CART_TO_PURCHASE_RATE` and `GENERATOR_SEED`.

A burst is asked for by the event's `detail`, `{"producerId": "burst-1", "eventsPerMinute": 1000}`: about so
many events in that minute, whatever the hour of the day.
"""

from collections.abc import Mapping

from clickstream_source.archive import write_minute
from clickstream_source.delivery import Record, deliver
from clickstream_source.invocation import read_invocation
from clickstream_source.minute import events_of_minute
from clickstream_source.settings import GeneratorSettings
from clickstream_source.visitors import Shape


def handler(event: Mapping[str, object], context: object) -> dict[str, object]:  # noqa: ARG001 - Lambda passes both
    """Make the events of the minute that `event["time"]` names, archive them, and produce them to Kafka.

    Args:
        event: an EventBridge scheduled event; see `read_invocation`.
        context: Lambda's context, not needed.

    Returns:
        `producerId`, `minute`, number of `events`, URL of the `archive` file, last offset by partition.

    Raises:
        SettingsError: a setting is missing or wrong; nothing was written.
        InvocationError: the event names no minute or a wrong override; nothing was written.
        OSError: the archive file could not be written; nothing was produced.
        DeliveryError: the archive file is complete, but Kafka did not acknowledge every record.
    """
    settings = GeneratorSettings.load()
    invocation = read_invocation(event)
    detail = invocation.detail
    producer_id = detail.producer_id or settings.producer_id
    burst = detail.events_per_minute
    events = events_of_minute(
        shape=Shape(
            seed=settings.seed,
            users=settings.users,
            view_to_cart_rate=settings.view_to_cart_rate,
            cart_to_purchase_rate=settings.cart_to_purchase_rate,
        ),
        producer_id=producer_id,
        minute=invocation.minute,
        events_per_minute=settings.events_per_minute if burst is None else burst,
        day_night_amplitude=settings.day_night_amplitude if burst is None else 0,
    )
    records = [Record(event.key, event.to_json()) for event in events]
    archive = write_minute(settings.archive_url, producer_id, invocation.minute, [record.value for record in records])
    delivered = deliver(
        records,
        total=len(records),
        settings=settings,
        remedy=f"The minute is archived whole ({archive}); invoke again with the same event: "
        "the same events are made, and what had arrived already counts as a duplicate.",
    )
    return {
        "producerId": producer_id,
        "minute": f"{invocation.minute:%Y-%m-%dT%H:%M:%SZ}",
        "events": len(events),
        "archive": archive,
        "partitions": dict(sorted(delivered.last_offsets.items())),
    }
