"""Call the Lambda handler at the start of every minute, as an EventBridge schedule would.

Like Lambda's asynchronous invocation, a failed call is repeated after one minute and, once more, after two;
then the failure is logged and the schedule goes on.
"""

import json
import logging
import sched
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import uuid4

import click

MINUTE = timedelta(minutes=1)
RETRY_DELAYS_SECONDS = (60, 120)

Handler = Callable[[dict[str, Any], object], object]

log = logging.getLogger("eventbridge")


@dataclass(frozen=True)
class Context:
    """The part of Lambda's context object that does not depend on AWS."""

    function_name: str = "clickstream-generator"
    function_version: str = "$LATEST"
    aws_request_id: str = field(default_factory=lambda: str(uuid4()))


def scheduled_event(minute: datetime) -> dict[str, Any]:
    """Return the event that EventBridge sends for a schedule's minute.

    The fields are those of https://docs.aws.amazon.com/eventbridge/latest/ref/events-structure.html.
    """
    return {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": f"{minute:%Y-%m-%dT%H:%M:%SZ}",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/clickstream-generator"],
        "detail": {},
    }


def burst_event(events: int) -> dict[str, Any]:
    """Return the event of this minute that asks for a burst, under a producer of its own: no two bursts are equal."""
    now = datetime.now(UTC)
    producer_id = f"burst-{now:%H%M%S}-{uuid4().hex[:6]}"
    return scheduled_event(now.replace(second=0, microsecond=0)) | {
        "detail": {"producerId": producer_id, "eventsPerMinute": events}
    }


class Schedule:
    """One call a minute, by the wall clock.

    Minutes that pass while the machine sleeps are left out, as by a schedule that was switched off.

    Args:
        handler: The Lambda handler.
        minutes: How many minutes it goes on; for ever when None.
        clock: Tells the time, in Unix seconds.
        wait: Waits so many seconds.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        minutes: int | None = None,
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._handler = handler
        self._left = minutes
        self._clock = clock
        self._stopped = Event()
        self._scheduler = sched.scheduler(clock, wait or self._stopped.wait)

    def run(self) -> None:
        """Call until the number of minutes is reached, or until stopped."""
        self._enter_minute(self._this_minute() + MINUTE)
        self._scheduler.run()

    def stop(self, *_: object) -> None:
        """End after the call that is under way; a signal handler."""
        self._stopped.set()
        for entry in self._scheduler.queue:
            if entry.action == self._invoke:
                log.warning("%s: not called again, as the generator is stopped", entry.argument[0]["time"])
            self._scheduler.cancel(entry)

    def _this_minute(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC).replace(second=0, microsecond=0)

    def _enter_minute(self, minute: datetime) -> None:
        self._scheduler.enterabs(minute.timestamp(), 1, self._tick, (minute,))

    def _tick(self, minute: datetime) -> None:
        if self._left is not None:
            self._left -= 1
        if self._left != 0:
            self._enter_minute(max(minute + MINUTE, self._this_minute()))
        self._invoke(scheduled_event(minute), 0)

    def _invoke(self, event: dict[str, Any], retries: int) -> None:
        try:
            log.info("%s: %s", event["time"], self._handler(event, Context()))
        except Exception:
            if retries < len(RETRY_DELAYS_SECONDS) and not self._stopped.is_set():
                delay = RETRY_DELAYS_SECONDS[retries]
                log.exception("%s: call %d failed, again in %d s", event["time"], retries + 1, delay)
                self._scheduler.enter(delay, 2, self._invoke, (event, retries + 1))
            else:
                log.exception(
                    "%s: FAILED after %d calls; if its archive file was written, refill_from_archive brings it",
                    event["time"],
                    retries + 1,
                )


@click.command(help=__doc__)
@click.option("--minutes", type=click.IntRange(min=1), help="End after so many minutes.")
@click.option("--burst", type=click.IntRange(min=1), help="Call once, for about so many events; prints the summary.")
@click.option("--check", is_flag=True, help="Only check the handler's settings.")
def main(*, minutes: int | None, burst: int | None, check: bool) -> None:
    """Call the handler every minute, once for a burst, or check its settings."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s %(message)s")
    if check:
        from clickstream_source.settings import GeneratorSettings, SettingsError  # noqa: PLC0415 - as above

        try:
            GeneratorSettings.load()
        except SettingsError as error:
            raise click.ClickException(str(error)) from error
        return
    from clickstream_generator import handler  # noqa: PLC0415 - Lambda's folder is on the path only here

    if burst is not None:
        click.echo(json.dumps(handler(burst_event(burst), Context())))
        return
    schedule = Schedule(handler, minutes=minutes)
    signal.signal(signal.SIGTERM, schedule.stop)
    schedule.run()


if __name__ == "__main__":
    main()
