"""Kafka's users: their passwords, and what each may do."""

from collections.abc import Mapping

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

MECHANISM = "SCRAM-SHA-512"
OWN_TOPICS = "clickstream-"  # the pipeline's topics all begin so: events and canary
GROUP = "clickstream-drain"
CLUSTER = "kafka-cluster"  # Kafka's only name for it


def ensure_passwords(admin: KafkaAdminClient, passwords: Mapping[str, str]) -> None:
    """Give each user the password; an earlier one no longer opens a connection.

    Raises:
        KafkaError: The broker refuses; names the user.
    """
    upsertions = [UserScramCredentialUpsertion(user, MECHANISM, password) for user, password in passwords.items()]
    refused = {user: error for user, error in admin.alter_user_scram_credentials(upsertions).items() if error}
    if refused:
        raise KafkaError(f"Kafka does not take the passwords of {refused}.")


def ensure_rights(admin: KafkaAdminClient, *, pipeline: str, generator: str, topic: str) -> None:
    """Let the pipeline use its topics and its group, and the generator write into the one topic; nobody else anything.

    Raises:
        KafkaError: The broker refuses.
    """
    own_topics = ResourcePattern(ResourceType.TOPIC, OWN_TOPICS, ACLResourcePatternType.PREFIXED)
    cluster = ResourcePattern(ResourceType.CLUSTER, CLUSTER)
    rights = [
        (pipeline, own_topics, ACLOperation.ALL),
        (pipeline, ResourcePattern(ResourceType.GROUP, GROUP), ACLOperation.READ),
        (pipeline, cluster, ACLOperation.DESCRIBE),
        (pipeline, cluster, ACLOperation.DESCRIBE_CONFIGS),
        (generator, ResourcePattern(ResourceType.TOPIC, topic), ACLOperation.WRITE),
    ]
    made = admin.create_acls(
        [ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, where) for user, where, operation in rights]
    )
    if made["failed"]:
        raise KafkaError(f"Kafka does not take rights of its users: {made['failed']}.")
