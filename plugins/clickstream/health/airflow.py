"""Airflow itself: the heartbeats that its API server knows, and what the pipeline's own exporter says of it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from clickstream.errors import SettingsError
from clickstream.health.check import Check, Finding, Installation, Problem, Status, finding
from clickstream.health.fetch import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.samples import Sample

POOLS = ("drain", "spark")
SLOW_SECONDS = 3
DEADLINE_SECONDS = 15
REMEDY = "See whether the API server at [api] base_url runs, and its log (embedded stack: `make status`)."


def look_at(process: str) -> Callable[[Installation], Finding]:
    """A check of a process's heartbeat: `scheduler` or `dag_processor`, as the API server names them."""

    def look(installation: Installation) -> Finding:
        state = fetch(f"{installation.airflow_url()}/api/v2/monitor/health").json()[process]
        beat = state[f"latest_{process}_heartbeat"]
        if state["status"] == "healthy":
            return finding(f"The last heartbeat was at {beat}.")
        name = process.replace("_", "-")
        problem = (
            f"Airflow calls its {name} {state['status'] or 'absent'}: start it and see its log (embedded stack: `make"
            f" logs COMPONENT=airflow-{name}`, `make up`)."
        )
        return finding(f"Its last heartbeat was at {beat}.", [Problem(Status.DOWN, problem)])

    return look


def look(installation: Installation) -> Finding:
    """Read the pipeline's own metrics as Prometheus does.

    Raises:
        NoAnswer: They are not served.
        SettingsError: The file of the token can't be read.
    """
    text = fetch(f"{installation.airflow_url()}/clickstream/metrics", token=_token(installation)).text
    samples: dict[str, list[Sample]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name].append(sample)
    pools = {sample.labels["pool"] for sample in samples["airflow_pool_slots"]}
    return finding(
        f"Metrics of the exporter: {len(samples)}; pools {', '.join(sorted(pools))}.", _problems(samples, pools)
    )


def _token(installation: Installation) -> str:
    path = installation.settings.metrics_token_file
    try:
        return path.read_text(encoding="utf-8").strip() if path else ""
    except OSError as error:
        raise SettingsError(
            f"CLICKSTREAM_METRICS_TOKEN_FILE can't be read ({type(error).__name__}). Create it with mode 0600 for"
            " Airflow's user."
        ) from error


def _problems(samples: Mapping[str, list[Sample]], pools: set[str]) -> Iterator[Problem]:
    readable = [sample.value for sample in samples["exporter_scrape_success"]] == [1]
    if readable and (missing := [pool for pool in POOLS if pool not in pools]):
        yield Problem(
            Status.DOWN,
            f"Pool {', '.join(missing)} is missing, so its tasks never start: make it under Admin, Pools (embedded"
            " stack: `make up`).",
        )
    if errors := sum(int(sample.value) for sample in samples["airflow_dag_import_errors"]):
        yield Problem(
            Status.DEGRADED,
            f"{errors} DAG files can't be imported: see the import errors on the Dags page, or `airflow dags"
            " list-import-errors`.",
        )
    if not readable:
        yield Problem(
            Status.DEGRADED,
            "The exporter could not read all of its sources (exporter_scrape_success is not 1): the API server's log"
            " names them.",
        )


CHECKS = (
    *(
        Check(
            component=f"airflow_{process}",
            look=look_at(process),
            remedy=REMEDY,
            slow_seconds=SLOW_SECONDS,
            deadline_seconds=DEADLINE_SECONDS,
        )
        for process in ("scheduler", "dag_processor")
    ),
    Check(
        component="airflow",
        look=look,
        remedy=REMEDY,
        slow_seconds=SLOW_SECONDS,
        deadline_seconds=DEADLINE_SECONDS,
        configured=lambda settings: settings.metrics_token_file is not None,
    ),
)
