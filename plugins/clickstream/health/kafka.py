"""Kafka: its metadata, the replicas of the topic, and the topic's settings as the contract wants them.

Down is only what lets no plan of the drain be made, for then it waits: brokers that don't answer, a topic that doesn't
exist, a partition without a leader, whose end nobody knows. A wrong setting is degraded: waiting would not mend it, and
Kafka's retention would go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from clickstream import broker
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.retention import HOURS_A_DAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kafka import KafkaAdminClient

    from clickstream.settings import Settings

CONTRACT = {
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    "max.message.bytes": str(2 << 20),
}
LEAST_RETENTION_HOURS = 24  # time for people to mend what keeps the drain from landing
MILLISECONDS_AN_HOUR = 3_600_000
AUTO_CREATION = "auto.create.topics.enable"
NO_LEADER = -1


def look(installation: Installation) -> Finding:
    """Ask the brokers about themselves and the topic.

    Raises:
        ClickstreamError: The topic doesn't exist.
        KafkaError: The brokers don't answer.
    """
    topic = installation.settings.topic
    with broker.admin_of(installation.settings) as admin:
        brokers = [one["broker_id"] for one in admin.describe_cluster()["brokers"] if not one["is_fenced"]]
        partitions = broker.described(admin, topic)["partitions"]
        names = [*CONTRACT, "retention.ms", "min.insync.replicas"]
        configs = _configs(admin, ConfigResourceType.TOPIC, topic, names)
        problems = [
            *_replica_problems(partitions, topic, int(configs["min.insync.replicas"])),
            *_setting_problems(configs, installation.settings),
            *_broker_problems(admin, brokers[0]),
        ]
    return finding(f"Brokers: {len(brokers)}; partitions of {topic}: {len(partitions)}.", problems)


def _configs(admin: KafkaAdminClient, kind: ConfigResourceType, name: str, configs: list[str]) -> dict[str, str]:
    resource = ConfigResource(kind, name, dict.fromkeys(configs))
    found = admin.describe_configs([resource], config_filter="all")[kind.name.lower()][name]
    return {config: str(found[config]["value"]) for config in configs}


def _replica_problems(partitions: list[dict[str, Any]], topic: str, least_in_sync: int) -> Iterator[Problem]:
    for partition in partitions:
        name = f"{topic}/{partition['partition_index']}"
        missing = sorted(set(partition["replica_nodes"]) - set(partition["isr_nodes"]))
        brokers = ", ".join(map(str, missing))
        if partition["leader_id"] == NO_LEADER:
            yield Problem(Status.DOWN, f"{name} has no leader: start its brokers ({brokers}).")
        elif missing:
            refused = len(partition["isr_nodes"]) < least_in_sync
            yield Problem(
                Status.DEGRADED,
                f"{name} is under-replicated: broker {brokers} holds no current copy. Start it, or reassign the"
                f" partition.{' Until then producers are refused (min.insync.replicas).' if refused else ''}",
            )


def _setting_problems(configs: Mapping[str, str], settings: Settings) -> Iterator[Problem]:
    topic = settings.topic
    for name, wanted in CONTRACT.items():
        if configs[name] != wanted:
            yield _wrong(topic, name, configs[name], wanted)
    retention = int(configs["retention.ms"])  # less than 0 where Kafka keeps all
    least = LEAST_RETENTION_HOURS * MILLISECONDS_AN_HOUR
    kept = settings.retention.kafka_days * HOURS_A_DAY * MILLISECONDS_AN_HOUR
    hours = settings.retention.events_days * HOURS_A_DAY - settings.allowed_lateness_hours
    if 0 <= retention < least:
        yield _wrong(topic, "retention.ms", configs["retention.ms"], f"{least} or more ({LEAST_RETENTION_HOURS} h)")
    elif 0 <= retention < kept:
        of = f"CLICKSTREAM_KEEP_KAFKA_DAYS={settings.retention.kafka_days}"
        yield _wrong(topic, "retention.ms", configs["retention.ms"], f"{kept} or more ({of})")
    elif not 0 <= retention <= hours * MILLISECONDS_AN_HOUR:
        of = "CLICKSTREAM_KEEP_EVENTS_DAYS less CLICKSTREAM_ALLOWED_LATENESS_HOURS: events outlive what Kafka holds"
        yield _wrong(topic, "retention.ms", configs["retention.ms"], f"{hours * MILLISECONDS_AN_HOUR} or less ({of})")


def _wrong(topic: str, name: str, value: str, wanted: str) -> Problem:
    return Problem(
        Status.DEGRADED,
        f"{name} of {topic} is {value}, but must be {wanted}: set it with kafka-configs --alter (embedded stack:"
        " `make up`).",
    )


def _broker_problems(admin: KafkaAdminClient, broker_id: int) -> Iterator[Problem]:
    try:
        auto_creation = _configs(admin, ConfigResourceType.BROKER, str(broker_id), [AUTO_CREATION])[AUTO_CREATION]
    except KafkaError as error:
        yield Problem(
            Status.DEGRADED,
            f"The settings of broker {broker_id} can't be read ({error}): allow DescribeConfigs on the cluster.",
        )
        return
    if auto_creation != "false":
        yield Problem(
            Status.DEGRADED,
            f"Brokers create topics by themselves, with settings against the contract: set {AUTO_CREATION}=false.",
        )


CHECK = Check(
    component="kafka",
    look=look,
    remedy="See whether the brokers in CLICKSTREAM_KAFKA_BOOTSTRAP_SERVERS run and can be reached, and their load.",
    slow_seconds=5,
    deadline_seconds=20,
)
