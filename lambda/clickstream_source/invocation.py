"""What EventBridge asks for: the minute, and overrides for a burst."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from clickstream_source.settings import EventsPerMinute, ProducerId

_FIRST_YEAR, _LAST_YEAR = 2000, 2100


class InvocationError(ValueError):
    """The event is not one a schedule sends; the message names field, value and what is allowed."""


class Detail(BaseModel):
    """Overrides of the settings for one invocation; the schedule itself sends none."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)

    producer_id: ProducerId | None = None
    events_per_minute: EventsPerMinute | None = None


class Invocation(BaseModel):
    """The part of an EventBridge scheduled event that counts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    time: AwareDatetime
    detail: Detail = Detail()

    @property
    def minute(self) -> datetime:
        """The start of the minute that `time` lies in, in UTC."""
        return self.time.astimezone(UTC).replace(second=0, microsecond=0)

    @property
    def is_burst(self) -> bool:
        """Whether a number of events is asked for, whatever the hour of the day."""
        return self.detail.events_per_minute is not None


def read_invocation(event: Mapping[str, object]) -> Invocation:
    """Read an EventBridge scheduled event.

    Args:
        event: `time` (RFC 3339) names the minute; `detail` may hold `producerId` and `eventsPerMinute`.
            A burst needs a producer of its own, or it would replace the archive file of the regular minute
            and reuse its event ids.

    Raises:
        InvocationError: a field is missing, wrong or unknown.
    """
    try:
        invocation = Invocation.model_validate(event)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}={problem['input']!r}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise InvocationError(
            f"{problems}. Send the event of an EventBridge schedule: `time` in RFC 3339 with a zone; "
            "`detail` empty, or with producerId (1 to 64 of A-Z a-z 0-9 _ . -) "
            "and eventsPerMinute (0 to 100000)."
        ) from error
    if not _FIRST_YEAR <= invocation.minute.year <= _LAST_YEAR:
        raise InvocationError(f"time={event['time']!r}: the year must be {_FIRST_YEAR} to {_LAST_YEAR} in UTC.")
    if invocation.is_burst and invocation.detail.producer_id is None:
        raise InvocationError(
            "detail.eventsPerMinute is given without detail.producerId: name a producer of the burst's own, "
            "or it would replace the archive file and reuse the event ids of the regular minute."
        )
    return invocation
