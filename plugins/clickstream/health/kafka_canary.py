"""The way through Kafka: one record, produced and consumed on a topic of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

from kafka import KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from clickstream import broker
from clickstream.broker_access import connection_options, refusals_explained
from clickstream.errors import BrokerSilent
from clickstream.health.check import Check, Finding, Installation, finding

if TYPE_CHECKING:
    from kafka import KafkaConsumer

    from clickstream.settings import Settings

TOPIC = "clickstream-canary"
PARTITION = TopicPartition(TOPIC, 0)
TOPIC_CONFIGS = {
    "cleanup.policy": "delete",
    "retention.ms": str(3_600_000),
    "segment.ms": str(600_000),
    "segment.bytes": str(1 << 20),
}
DELIVERY_MILLISECONDS = 8_000
ARRIVAL_SECONDS = 8.0
CLOSE_SECONDS = 1.0


def look(installation: Installation) -> Finding:
    """Produce a record with an id of its own and wait until it comes back.

    Raises:
        KafkaError: The brokers don't answer or don't take the record.
        BrokerSilent: It doesn't come back.
    """
    settings = installation.settings
    created = _ensure_topic(settings)
    with broker.consumer_of(settings) as consumer:
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, consumer.end_offsets([PARTITION])[PARTITION])
        round_trip = _round_trip(settings, consumer, uuid4().bytes)
    return finding(
        f"A record came back after {round_trip:.2f} s{'; the topic was made for it' if created else ''}.",
        latency_seconds=round_trip,
    )


def _ensure_topic(settings: Settings) -> bool:
    """Create the topic where it is missing; returns whether it was."""
    with broker.admin_of(settings) as admin:
        if TOPIC in admin.list_topics():
            return False
        by_default = -1  # replicas as the brokers are set
        admin.create_topics([NewTopic(TOPIC, 1, by_default, topic_configs=TOPIC_CONFIGS)])
        admin.wait_for_topics([TOPIC])
        return True


def _round_trip(settings: Settings, consumer: KafkaConsumer, record_id: bytes) -> float:
    """Seconds from sending a record to receiving it."""
    with refusals_explained(settings):
        producer = KafkaProducer(
            **connection_options(settings),
            acks="all",
            linger_ms=0,
            request_timeout_ms=DELIVERY_MILLISECONDS,
            delivery_timeout_ms=DELIVERY_MILLISECONDS,
            max_block_ms=DELIVERY_MILLISECONDS,
        )
    try:
        producer.partitions_for(TOPIC)  # connected before the clock starts
        began = time.monotonic()
        sent = producer.send(TOPIC, value=record_id, partition=PARTITION.partition)
        offset = sent.get(timeout=DELIVERY_MILLISECONDS / 1000).offset
    finally:
        producer.close(timeout=CLOSE_SECONDS)
    while time.monotonic() - began < DELIVERY_MILLISECONDS / 1000 + ARRIVAL_SECONDS:
        for record in consumer.poll(timeout_ms=200).get(PARTITION, []):
            if record.value == record_id:
                return time.monotonic() - began
    raise BrokerSilent(
        f"{TOPIC} took a record at offset {offset} and did not give it back within {ARRIVAL_SECONDS:.0f} s. See the"
        " brokers' logs and load.",
        offset=offset,
    )


CHECK = Check(
    component="kafka_canary",
    look=look,
    remedy=f"See the brokers' logs and load; the writer may need the right to create, write and read {TOPIC}.",
    slow_seconds=5,
    deadline_seconds=30,
)
