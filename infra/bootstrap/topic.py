"""The topic, with the settings of the contract."""

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic

PARTITIONS = 3
TOPIC_CONFIG = {
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    "max.message.bytes": str(2 * 1024 * 1024),
    "retention.ms": str(7 * 24 * 3600 * 1000),
}


def ensure_topic(admin: KafkaAdminClient, topic: str) -> None:
    """Create the topic, or give the one that exists the settings of the contract.

    Raises:
        KafkaError: The broker refuses.
    """
    if topic not in admin.list_topics():
        admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=TOPIC_CONFIG)], timeout_ms=20_000)
    else:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=TOPIC_CONFIG)
        admin.alter_configs([resource], incremental=True)
