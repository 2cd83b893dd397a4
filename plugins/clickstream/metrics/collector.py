"""One scrape: every source read, each on its own."""

from __future__ import annotations

import logging
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from clickstream import VERSION
from clickstream.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

log = logging.getLogger(__name__)


class Exporter(Collector):
    """Reads all sources at each scrape, so that no restart of any process changes a counter.

    A source that can't be read is logged and has no metric in this scrape, rather than an old or partial one that
    would look healthy, and `exporter_scrape_success` is 0.
    """

    def __init__(self, sources: Mapping[str, Callable[[], Iterable[Metric]]], *, revision: str) -> None:
        """Take what reads the metrics of each source, by its name, and the revision that is deployed."""
        self._sources = sources
        self._revision = revision

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of one scrape."""
        succeeded = True
        for name, read in self._sources.items():
            try:
                found = list(read())
            except Exception:
                log.exception("%s can't be read, so this scrape has no metrics of it. Check that it is up.", name)
                succeeded = False
            else:
                yield from found
        yield gauge(
            "exporter_scrape_success",
            "Whether this scrape could read all of its sources (boolean); the metrics of one that can't be are absent.",
            [],
            [([], succeeded)],
        )
        yield gauge(
            "build_info",
            "What is deployed (always 1): versions of the pipeline, Airflow and Python, and the source's revision.",
            ["version", "revision", "airflow", "python"],
            [([VERSION, self._revision, version("apache-airflow"), platform.python_version()], 1)],
        )
