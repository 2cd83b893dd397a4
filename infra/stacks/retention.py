"""How long what is kept: one place for the bucket's lifecycle, the logs and Kafka."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Periods in days.

    Attributes:
        archive_infrequent: until the generator's minutes move to the class for seldom reads.
        archive: until they go.
        raw: until landed records go; at least as long as anybody may want to rebuild windows.
        rejected: until rejected records go.
        batches: until the specs, reports and staged tables of batches go.
        noncurrent: until replaced and deleted objects really go.
        unfinished_uploads: until parts of uploads that never ended go.
        logs: of the Lambda and of the network's refusals.
        dead_letters: until failed invocations are forgotten, at most 14.
    """

    archive_infrequent: int = 30
    archive: int = 400
    raw: int = 90
    rejected: int = 90
    batches: int = 14
    noncurrent: int = 7
    unfinished_uploads: int = 2
    logs: int = 14
    dead_letters: int = 14


RETENTION = Retention()
