"""The whole batch: read, parse, classify, dedupe, aggregate, write, report.

Three frames are cached because each is used by several queries: the classified records (without their values), the
deduped candidates, and the visits that most tables are made of. A query whose result is known to be empty is not run.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from clickstream_transform import session, storage
from clickstream_transform.classify import Disposition, classify
from clickstream_transform.counts import Census, Tally, take_census, take_tally
from clickstream_transform.dedupe import dedupe
from clickstream_transform.jobs import side_by_side
from clickstream_transform.parse import parse
from clickstream_transform.protocol import EventFile, FilesRead, OutputFile, Report, Spec
from clickstream_transform.read import read_events, read_segments
from clickstream_transform.tables import TABLES
from clickstream_transform.tables.table import Changes, Table
from clickstream_transform.tables.visits import into_visits
from clickstream_transform.windows import changed_windows, into_windows
from clickstream_transform.write import write_events, write_rejected, write_table


def _no_table_files() -> dict[str, tuple[OutputFile, ...]]:
    return {table.name: () for table in TABLES}


class InconsistentCountError(RuntimeError):
    """Two independent counts of the same rows differ, so nothing of this attempt may be published."""


@dataclass
class Stages:
    """Wall-clock seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Record how long the block takes."""
        start = monotonic()
        yield
        self.seconds[name] = round(monotonic() - start, 3)


@dataclass(frozen=True)
class Result:
    """What came of the candidates."""

    tally: Tally
    hours_read: FilesRead
    event_files: tuple[EventFile, ...] = ()
    tables: Mapping[str, tuple[OutputFile, ...]] = field(default_factory=_no_table_files)


_NOTHING_READ = FilesRead(files=0, bytes=0)
_NO_CANDIDATES = Result(Tally(accepted=0, duplicate=0, id_conflicts=0, accepted_by_unit={}), _NOTHING_READ)
_NOTHING_LANDED = Census(landed=0, late=0, rejected=0, reasons={}, candidates=0, hours=())


def run(spark: SparkSession, spec: Spec) -> Report:
    """Transform one batch as its spec says, and write the report last.

    The session may be a classic or a Spark Connect one; its settings are restored afterwards.

    Raises:
        InputFileError: an input file is missing, corrupt, or holds another number of rows than the spec says.
        InconsistentCountError: what was read or written is not what was counted.
        pyspark.errors.AnalysisException: an output folder exists already.
    """
    stages = Stages()
    census, result = _NOTHING_LANDED, _NO_CANDIDATES
    rejected_files: tuple[OutputFile, ...] = ()
    if spec.segments:
        with stages.timed("check_segments"):
            storage.check_inputs(spec.segments)
        with session.settings(spark), _cached(_classified(spark, spec)) as classified:
            with stages.timed("classify"):
                census = take_census(classified)
            _agree("landed records", counted=census.landed, found=sum(one.records for one in spec.segments))
            if census.candidates:
                result = _accept(spark, spec, classified, census, stages)
            if census.rejected:
                with stages.timed("write_rejected"):
                    rejected_files = write_rejected(
                        _only(classified, Disposition.REJECTED),
                        read_segments(spark, spec.segments),
                        spec.output.rejected,
                        records=census.rejected,
                    )
    report = Report(
        batch_id=spec.batch_id,
        attempt_id=spec.attempt_id,
        landed=census.landed,
        accepted=sum(file.records for file in result.event_files),
        duplicate=result.tally.duplicate,
        late=census.late,
        rejected=sum(file.records for file in rejected_files),
        id_conflicts=result.tally.id_conflicts,
        reasons=census.reasons,
        hours=census.hours,
        hours_read=result.hours_read,
        event_files=result.event_files,
        rejected_files=rejected_files,
        tables=result.tables,
        stages=stages.seconds,
    )
    _agree("accepted events", counted=result.tally.accepted, found=report.accepted)
    _agree("rejected records", counted=census.rejected, found=report.rejected)
    storage.write_text_atomically(spec.output.report, report.to_json())
    return report


def _classified(spark: SparkSession, spec: Spec) -> DataFrame:
    return read_segments(spark, spec.segments).transform(parse).transform(classify(spec.settings, spec.retired_hours))


def _accept(spark: SparkSession, spec: Spec, classified: DataFrame, census: Census, stages: Stages) -> Result:
    """Dedupe the candidates against the live events of their hours; write what is new, and the tables."""
    live_files = [file for file in spec.event_files if file.hour in census.hours]
    with stages.timed("check_event_files"):
        footers = storage.check_inputs(live_files)
    hours_read = FilesRead(files=len(footers), bytes=sum(footer.bytes for footer in footers))
    tasks = session.size_shuffles(spark, census.landed + sum(footer.records for footer in footers))
    live = read_events(spark, live_files)
    unit_minutes = math.gcd(*spec.settings.window_minutes)
    with _cached(dedupe(_only(classified, Disposition.CANDIDATE), live, tasks=tasks)) as deduped:
        with stages.timed("dedupe"):
            tally = take_tally(deduped, unit_minutes)
        if not tally.accepted:
            return Result(tally=tally, hours_read=hours_read)
        accepted = _only(deduped, Disposition.ACCEPTED)
        with stages.timed("write_events"):
            event_files = write_events(accepted, spec.output.events, largest_hour=tally.largest_hour(), tasks=tasks)
        with stages.timed("write_tables"):
            new = accepted.select(*live.columns)
            events = live.unionByName(new)
            tables = _write_tables(spark, spec, new, events.coalesce(1) if tasks == 1 else events, tally)
    return Result(tally=tally, hours_read=hours_read, event_files=event_files, tables=tables)


def _write_tables(
    spark: SparkSession, spec: Spec, accepted: DataFrame, events: DataFrame, tally: Tally
) -> dict[str, tuple[OutputFile, ...]]:
    """Recompute what the tables say of the windows and the hours that gained an event."""
    widths = spec.settings.window_minutes
    changed = changed_windows(spark, unit_starts=tally.accepted_by_unit, window_minutes=widths)
    window_events = into_windows(events, changed, widths)
    with _cached(into_visits(window_events)) as visits:
        changes = Changes(accepted=accepted, events=events, window_events=window_events, visits=visits)
        jobs = {table.name: partial(_write, table, changes, spec.output.tables) for table in TABLES}
        return side_by_side(spark, jobs)


def _write(table: Table, changes: Changes, folder: str) -> tuple[OutputFile, ...]:
    return write_table(table.build(changes), f"{folder}/{table.name}")


def _only(frame: DataFrame, disposition: Disposition) -> DataFrame:
    return frame.where(F.col("disposition") == disposition.value)


@contextmanager
def _cached(frame: DataFrame) -> Iterator[DataFrame]:
    """Keep a frame in memory, and on disk where memory ends, while the block uses it."""
    frame.persist()
    try:
        yield frame
    finally:
        frame.unpersist()


def _agree(what: str, *, counted: int, found: int) -> None:
    if counted != found:
        raise InconsistentCountError(
            f"{found} {what} by the footers of their files, but {counted} counted over the classified rows. "
            "Nothing was reported; run the batch again as a new attempt."
        )
