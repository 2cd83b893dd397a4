"""What can stop the pipeline. Each message names the value, the rule, and what to do next."""

from __future__ import annotations


class ClickstreamError(Exception):
    """Base of every error that the pipeline raises on purpose: trying the same again can't help."""


class SettingsError(ClickstreamError):
    """A setting is missing or outside of what is allowed."""


class BrokerRefused(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """Kafka and this client don't trust each other: a wrong password, or a certificate of another authority."""


class StaleAttempt(ClickstreamError):  # noqa: N818 - the name is the ledger's term
    """Another attempt has committed, or a newer one exists. Nothing was changed by this one."""


class StaleBase(ClickstreamError):  # noqa: N818 - the name is the ledger's term
    """Event files or retired hours changed since this attempt read them. Nothing was published."""


class ConservationBroken(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """An equation of the ledger would not hold. Nothing was published."""


class OutputMismatch(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """A file is not what its writer reported: missing, of another size, or with other rows."""


class RemedyRefused(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """A manual remedy was asked for where it does not apply."""


class RetentionRefused(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """A period is too short for what else is set: something would go that may still be needed."""


class RemovalFailed(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """Some files or folders could not be removed; all others that were due are gone."""


class ProvisioningRefused(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """A step of provisioning or teardown may not go on as things are. Nothing was changed by it."""


class StackRolledBack(ClickstreamError):  # noqa: N818 - CloudFormation's own term
    """An operation on a stack failed, and CloudFormation has undone it as far as it could."""


class LeftoversFound(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """Resources of the pipeline are in the account though its stacks are gone."""


class CostUnknown(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """Something in a template has no price."""


class HostCommandFailed(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """A command on the host ended with an error, or didn't end in time."""


class RefillIncomplete(ClickstreamError):  # noqa: N818 - reads as the statement that it is
    """Not every archived record was taken by Kafka; refilling again is safe."""


class PartitionStopped(ClickstreamError):  # noqa: N818 - the name is the ledger's term
    """A partition can't be drained further until a person acts; the other partitions go on.

    Attributes:
        kind: Short name of the condition, as in `ledger.partitions.stopped`.
        offset: The first offset that can't be landed; everything before it can.
    """

    kind = "stopped"

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class OffsetsExpired(PartitionStopped):
    """Kafka's retention deleted records before they were landed."""

    kind = "expired"


class TopicRecreated(PartitionStopped):
    """The topic was deleted and created again: same name, other topic_id."""

    kind = "recreated"


class LogTruncated(PartitionStopped):
    """The log ends before offsets that were already landed or seen."""

    kind = "truncated"


class ProducerTimestamps(PartitionStopped):
    """Records carry the producer's time (CreateTime) instead of the broker's (LogAppendTime)."""

    kind = "create_time"


class RecordUnreadable(PartitionStopped):
    """The client can't decode what the log holds."""

    kind = "unreadable"


class BrokerSilent(PartitionStopped):
    """The broker sends nothing, though the log goes on; the next drain tries again."""

    kind = "silent"


class PartitionsStopped(ClickstreamError):  # noqa: N818 - the name is the ledger's term
    """At least one partition is stopped; the message lists each with its remedy."""


class ComponentsDown(ClickstreamError):  # noqa: N818 - reads as the statement that they are
    """A health check found components down; the message lists each with its remedy."""


class HealthNotRecorded(ClickstreamError):  # noqa: N818 - reads as the statement that it is not
    """What the health checks found is not in the ledger."""
