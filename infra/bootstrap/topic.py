"""The topic, with the settings of the contract."""

import os
from collections.abc import Mapping

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic

from infra.periods import periods

PARTITIONS = 3
MILLISECONDS_A_DAY = 24 * 3600 * 1000


def topic_config(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The topic's settings; how long Kafka keeps a record is the period `kafka`.

    Raises:
        PeriodError: The environment sets a wrong period; any, for together they may be wrong.
    """
    return {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "max.message.bytes": str(2 * 1024 * 1024),
        "retention.ms": str(periods(environment)["kafka_days"] * MILLISECONDS_A_DAY),
    }


def ensure_topic(admin: KafkaAdminClient, topic: str, environment: Mapping[str, str] = os.environ) -> None:
    """Create the topic, or give the one that exists the settings of the contract.

    Raises:
        KafkaError: The broker refuses.
        PeriodError: The environment sets a wrong period; any, for together they may be wrong.
    """
    wanted = topic_config(environment)
    if topic not in admin.list_topics():
        admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=wanted)], timeout_ms=20_000)
    else:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=wanted)
        admin.alter_configs([resource], incremental=True)
