"""The page's first lines: is what is published fresh, complete and correct, and what to do where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clickstream.ledger.overview import Overview, Row

FRESH_WITHIN = timedelta(minutes=5)  # the service level
CHECKED_WITHIN = timedelta(minutes=15)  # three intervals of check_health
GONE_AFTER = timedelta(hours=6)  # a component that is not checked for so long is no longer configured
LEAST_HEADROOM_SECONDS = 2 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An answer in one line.

    Attributes:
        question: One word, such as `Fresh`.
        status: `ok`; `attention`: it works, but not for long or not for all; `bad`; `unknown`: nothing tells.
        finding: What is the case.
        remedy: What to do, empty where nothing is to be done.
    """

    question: str
    status: Literal["ok", "attention", "bad", "unknown"]
    finding: str
    remedy: str = ""


def verdicts(seen: Overview) -> list[Verdict]:
    """Judge what the ledger says, the most important first."""
    return [_fresh(seen), _complete(seen), _correct(seen), _running(seen)]


def _fresh(seen: Overview) -> Verdict:
    question = "Fresh"
    if seen.watermark is None:
        return Verdict(
            question=question,
            status="unknown",
            finding="Not every partition has published records yet.",
            remedy=_whats_in_the_way(seen),
        )
    age = seen.as_of - seen.watermark
    finding = f"Published up to {seen.watermark:%H:%M:%S}, {_span(age)} ago; the promise is {_span(FRESH_WITHIN)}."
    if age <= FRESH_WITHIN:
        return Verdict(question=question, status="ok", finding=finding)
    return Verdict(question=question, status="bad", finding=finding, remedy=_whats_in_the_way(seen))


def _whats_in_the_way(seen: Overview) -> str:
    if not seen.partitions:
        return "No partition is known: unpause drain_clickstream, and look at its newest run."
    if stopped := _names(row for row in seen.partitions if row["stopped"]):
        return f"Stopped: {stopped}. Follow the remedy in its row below."
    if behind := _names(row for row in seen.partitions if (row["lag_seconds"] or 0) > FRESH_WITHIN.total_seconds()):
        return f"Not landed: {behind}. Look at drain_clickstream's newest run, then at the check of kafka below."
    if (newest := next(iter(seen.batches), None)) and newest["state"] == "open" and newest["attempts"] > 1:
        return (
            f"Batch {newest['batch_id']} is at attempt {newest['attempts']}: read its Spark log. If every attempt"
            " fails the same way, run release_batch (dry run first)."
        )
    return "Everything is landed, but not published: look at aggregate_clickstream's newest run."


def _complete(seen: Overview) -> Verdict:
    question = "Complete"
    if seen.complete_until is None:
        return Verdict(question=question, status="unknown", finding="No window is complete yet.")
    until = f"Windows that end by {seen.complete_until:%H:%M} lack no on-time data."
    if stopped := _names(row for row in seen.partitions if row["stopped"]):
        return Verdict(
            question=question,
            status="bad",
            finding=f"Stopped: {stopped}, so later windows stay provisional. {until}",
            remedy="Follow the remedy in its row below before Kafka's retention deletes more.",
        )
    short = [
        row
        for row in seen.partitions
        if row["headroom_seconds"] is not None and row["headroom_seconds"] < LEAST_HEADROOM_SECONDS
    ]
    if short:
        least = timedelta(seconds=max(min(row["headroom_seconds"] for row in short), 0))
        return Verdict(
            question=question,
            status="bad",
            finding=f"Kafka deletes records of {_names(short)} that are not landed in {_span(least)}.",
            remedy="Raise the topic's retention.ms now, then see why drain_clickstream is behind.",
        )
    if overdue := seen.overdue["windows"]:
        return Verdict(
            question=question,
            status="attention",
            finding=f"{overdue} windows since {seen.overdue['oldest']:%H:%M} should be complete by now. {until}",
            remedy="They wait for the watermark of every partition; see what Fresh says.",
        )
    if seen.losses:
        offsets = sum(row["end_offset"] - row["first_offset"] for row in seen.losses)
        return Verdict(
            question=question,
            status="attention",
            finding=f"{offsets:,} offsets of {_names(seen.losses)} were declared lost in the last 24 hours. {until}",
            remedy="What the archive holds can be sent again under new offsets.",
        )
    return Verdict(question=question, status="ok", finding=until)


def _correct(seen: Overview) -> Verdict:
    question = "Correct"
    broken = [row["batch_id"] for row in seen.batches if row["offsets_missing"] or row["records_missing"]]
    if broken:
        return Verdict(
            question=question,
            status="bad",
            finding=f"The equation of batch {', '.join(map(str, broken))} does not hold.",
            remedy="Tell the users of the numbers, and follow SELECT * FROM ledger.conservation.",
        )
    audited_at = seen.audit[0]["audited_at"] if seen.audit else None
    if audited_at is None or seen.as_of - audited_at > CHECKED_WITHIN:
        ago = "not audited yet" if audited_at is None else f"last audited {_span(seen.as_of - audited_at)} ago"
        return Verdict(
            question=question,
            status="unknown",
            finding=f"The ledger's equations were {ago}.",
            remedy="Unpause check_health, and look at its newest run.",
        )
    unaccounted = sum(row["unaccounted"] for row in seen.audit)
    when = f"as of {audited_at:%H:%M:%S}"
    if unaccounted:
        names = "; ".join(row["check_name"] for row in seen.audit if row["unaccounted"])
        return Verdict(
            question=question,
            status="bad",
            finding=f"{unaccounted:,} unaccounted for {when}: {names}.",
            remedy="Tell the users of the numbers, and follow SELECT * FROM ledger.conservation.",
        )
    return Verdict(question=question, status="ok", finding=f"Every offset and record is accounted for {when}.")


def _running(seen: Overview) -> Verdict:
    question = "Running"
    ages = {row["component"]: seen.as_of - row["checked_at"] for row in seen.checks}
    current = [row for row in seen.checks if ages[row["component"]] <= CHECKED_WITHIN]
    if not current:
        return Verdict(
            question=question,
            status="unknown",
            finding=f"No component was checked in the last {_span(CHECKED_WITHIN)}.",
            remedy="Unpause check_health, and look at its newest run.",
        )
    failing = {
        status: ", ".join(row["component"] for row in current if row["status"] == status)
        for status in ("down", "degraded")
    }
    stale = [component for component, age in ages.items() if CHECKED_WITHIN < age <= GONE_AFTER]
    finding = ". ".join(f"{status.capitalize()}: {names}" for status, names in failing.items() if names)
    if finding:
        return Verdict(
            question=question,
            status="bad" if failing["down"] else "attention",
            finding=f"{finding}.",
            remedy="The reason of each says what to do; see Health checks below.",
        )
    if stale:
        return Verdict(
            question=question,
            status="unknown",
            finding=f"Not checked in the last {_span(CHECKED_WITHIN)}: {', '.join(stale)}.",
            remedy="Look at check_health's newest run.",
        )
    return Verdict(question=question, status="ok", finding=f"All {len(current)} components are well.")


def _names(rows: Iterable[Row]) -> str:
    return ", ".join(dict.fromkeys(f"{row['topic']}/{row['partition']}" for row in rows))


def _span(time: timedelta) -> str:
    """A time in its two greatest units, such as 5 min 20 s."""
    left = int(time.total_seconds())
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
