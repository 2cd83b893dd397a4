"""Metric families from counted rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

Labels = Sequence[str]


def counter(name: str, meaning: str, labels: Labels, samples: Iterable[tuple[Labels, float]]) -> Metric:
    """A counter from its values by label values."""
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def gauge(name: str, meaning: str, labels: Labels, samples: Iterable[tuple[Labels, float | None]]) -> Metric:
    """A gauge from its values by label values; None is a value that is not known, and not exposed."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def histogram(
    name: str,
    meaning: str,
    labels: Labels,
    bounds: Sequence[float],
    rows: Iterable[tuple[Labels, float, int, float]],
) -> Metric:
    """A histogram from counts that are not cumulative.

    Args:
        name: Name of the metric.
        meaning: Its help text.
        labels: Names of its labels.
        bounds: All upper bounds in ascending order, the last infinite.
        rows: (label values, upper bound, count, sum), those of the same label values together.
    """
    family = HistogramMetricFamily(name, meaning, labels=labels)
    for values, group in groupby(rows, key=lambda row: row[0]):
        of_bound = {bound: (count, total) for _, bound, count, total in group}
        counted, buckets = 0, []
        for bound in bounds:
            counted += of_bound.get(bound, (0, 0))[0]
            buckets.append((floatToGoString(bound), counted))
        family.add_metric(values, buckets, sum_value=sum(total for _, total in of_bound.values()))
    return family
