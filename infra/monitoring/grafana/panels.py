"""Every kind of panel once: its look, its legend, and how units, thresholds and links are said.

A dashboard is 24 columns wide; a row of height 1 is about 30 pixels high.
"""

from collections.abc import Iterable, Mapping
from string import ascii_uppercase
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DynamicConfigValue,
    FieldColorModeId,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

from infra.monitoring.grafana.queries import Query

Panel = bargauge.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel
P = TypeVar("P", bargauge.Panel, stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)
Steps = tuple[tuple[float | None, str], ...]
Column = list[DynamicConfigValue]

GOOD, WARNING, BAD, QUIET = "green", "orange", "red", "text"
NEUTRAL: Steps = ((None, QUIET),)
NONE_IS_GOOD: Steps = ((None, GOOD), (1, BAD))
ONE_IS_GOOD: Steps = ((None, BAD), (1, GOOD))

UNKNOWN = SpecialValueMap(
    DashboardSpecialValueMapOptions(
        match=SpecialValueMatch.NULL_AND_NAN, result=ValueMappingResult(text="unknown", color=BAD)
    )
)


def good_below(warning: float, bad: float) -> Steps:
    """Return thresholds for what should be small."""
    return ((None, GOOD), (warning, WARNING), (bad, BAD))


def good_above(warning: float, good: float) -> Steps:
    """Return thresholds for what should be large: bad below `warning`."""
    return ((None, BAD), (warning, WARNING), (good, GOOD))


def words(of: Mapping[str, tuple[str, str]]) -> ValueMapping:
    """Say values in words: value to (text, colour)."""
    return ValueMap(
        {
            value: ValueMappingResult(text=text, color=color, index=n)
            for n, (value, (text, color)) in enumerate(of.items())
        }
    )


def number(
    title: str,
    *queries: Query,
    description: str,
    unit: str = "short",
    steps: Steps = NEUTRAL,
    width: int = 4,
    mappings: Iterable[ValueMapping] = (),
    decimals: int | None = None,
) -> stat.Panel:
    """Make a big number; coloured where `steps` say what is good. Without data it says `unknown`, in red."""
    panel = (
        stat.Panel()
        .color_mode(looks.BigValueColorMode.VALUE if steps == NEUTRAL else looks.BigValueColorMode.BACKGROUND)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .justify_mode(looks.BigValueJustifyMode.CENTER)
        .text_mode(looks.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .mappings([*mappings, UNKNOWN])
        .no_value("unknown")
        .thresholds(_thresholds(steps))
        .unit(unit)
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _finished(panel, title, description, queries, width=width, height=4)


def chart(
    title: str,
    *queries: Query,
    description: str,
    unit: str = "short",
    width: int = 12,
    steps: Steps | None = None,
    stacked_bars: bool = False,
    maximum: float | None = None,
) -> timeseries.Panel:
    """Make a chart over time from 0; `steps` are drawn as lines, counts of windows as stacked bars."""
    panel = (
        timeseries.Panel()
        .unit(unit)
        .min(0)
        .line_width(1 if stacked_bars else 2)
        .fill_opacity(70 if stacked_bars else 10)
        .draw_style(looks.GraphDrawStyle.BARS if stacked_bars else looks.GraphDrawStyle.LINE)
        .show_points(looks.VisibilityMode.AUTO)
        .span_nulls(span_nulls=False)
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.TABLE)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    )
    if stacked_bars:
        panel = panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if maximum is not None:
        panel = panel.max(maximum)
    if steps:
        panel = panel.thresholds(_thresholds(steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.LINE)
        )
    return _finished(panel, title, description, queries, width=width, height=8)


def listing(
    title: str, query: Query, *, description: str, columns: Mapping[str, Column], width: int = 24, height: int = 9
) -> table.Panel:
    """Make a table; `columns` says by name what is not plain, see `column`."""
    panel = (
        table.Panel()
        .show_header(show_header=True)
        .cell_height(looks.TableCellHeight.SM)
        .cell_options(looks.TableAutoCellOptions())
        .filterable(filterable=True)
    )
    for name, properties in columns.items():
        panel = panel.override_by_name(name, properties)
    return _finished(panel, title, description, [query], width=width, height=height)


def column(
    *,
    unit: str | None = None,
    link: tuple[str, str] | None = None,
    mappings: Iterable[ValueMapping] = (),
    steps: Steps | None = None,
    width: int | None = None,
) -> Column:
    """Say how a table shows a column: its unit, a link (title, address), colours, and its width in pixels."""
    properties: dict[str, Any] = {}
    if unit:
        properties["unit"] = unit
    if link:
        title, url = link
        properties["links"] = [{"title": title, "url": url, "targetBlank": True}]
    if mappings:
        properties["mappings"] = list(mappings)
    if steps:
        properties["thresholds"] = _thresholds(steps).build()
    if mappings or steps:
        properties["custom.cellOptions"] = {"type": "color-text"}
    if width:
        properties["custom.width"] = width
    return [DynamicConfigValue(id_val=name, value=value) for name, value in properties.items()]


def ranking(
    title: str, query: Query, *, description: str, unit: str = "short", width: int = 8, height: int = 8
) -> bargauge.Panel:
    """Make a bar for each row of a query: its name, then its number."""
    panel = (
        bargauge.Panel()
        .unit(unit)
        .min(0)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .value_mode(looks.BarGaugeValueMode.TEXT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=True))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.CONTINUOUS_BLUES))
    )
    return _finished(panel, title, description, [query], width=width, height=height)


def states(
    title: str, *queries: Query, description: str, mappings: Iterable[ValueMapping], width: int = 12
) -> statetimeline.Panel:
    """Make a band over time for each series, coloured by its value."""
    panel = (
        statetimeline.Panel()
        .show_value(looks.VisibilityMode.NEVER)
        .merge_values(merge_values=True)
        .row_height(0.8)
        .mappings(list(mappings))
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    return _finished(panel, title, description, queries, width=width, height=8)


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def _finished(panel: P, title: str, description: str, queries: Iterable[Query], *, width: int, height: int) -> P:
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(query.ref_id(letter))
    panel.title(title).description(description).span(width).height(height)
    return panel
