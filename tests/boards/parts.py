"""What the boards are put together from: queries, panels of a few kinds, variables and links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import dashboard as make
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# Where the runbook is read: put your own place here once, and run `python -m tests.boards`.
RUNBOOK = "https://git.example.com/microbatch/deploy/runbook.md"
GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"
HERE = 'instance=~"$instance"'
TOPIC = 'topic=~"$topic"'
RATE = "[$__rate_interval]"
SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
Query = tuple[str, str]  # expression and legend
_Panel = TypeVar("_Panel", Stat, StateTimeline, Table, TimeSeries)


@dataclass(frozen=True)
class Limit:
    """From this value on a panel has this colour."""

    value: float
    colour: str


def name(metric: str, *labels: str) -> str:
    """A series of ours, of the instances chosen, with these labels."""
    return f"microbatch_{metric}{{{', '.join([HERE, *labels])}}}"


def per_second(metric: str, *labels: str) -> str:
    """How fast a counter grows."""
    return f"rate({name(metric, *labels)}{RATE})"


def quantile(share: float, histogram: str) -> str:
    """Of all instances together."""
    return f"histogram_quantile({share}, sum by (le) ({per_second(f'{histogram}_bucket')}))"


def board(uid: str, title: str, description: str, *, of_one: bool = False) -> make.Dashboard:
    """An empty one, with the links to the others and to the runbook. `of_one`: of one instance and all its topics."""
    made = (
        make.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["microbatch"])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone(common.TimeZoneBrowser)
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(_link("Boards").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["microbatch"]).include_vars(True))
        .link(_link("Runbook").type(dashboard.DashboardLinkType.LINK).url(RUNBOOK).target_blank(True))
        .with_variable(make.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_of_all(_asked("group", "Group", "label_values(microbatch_build_info, group)")))
    )
    instance = _asked("instance", "Instance", 'label_values(microbatch_build_info{group=~"$group"}, instance)')
    if of_one:
        return made.with_variable(instance)
    topic = _asked("topic", "Topic", f"label_values({name('records_consumed_total')}, topic)")
    return made.with_variable(_of_all(instance)).with_variable(_of_all(topic))


def _link(title: str) -> make.DashboardLink:
    """Beside the variables, and not in a menu, where the SDK puts it."""
    return make.DashboardLink(title).keep_time(True).placement("")


def _asked(variable: str, label: str, query: str) -> make.QueryVariable:
    """A variable whose values Prometheus knows."""
    return (
        make.QueryVariable(variable)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": variable})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def _of_all(variable: make.QueryVariable) -> make.QueryVariable:
    """Several may be chosen, and at first all are."""
    every = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.multi(True).include_all(True).current(every)


def sentence(title: str, description: str, expression: str, says: dict[int, tuple[str, str]], width: int) -> Stat:
    """One line of text: what the number that `expression` gives stands for, and its colour."""
    results = {
        str(number): dashboard.ValueMappingResult(text=text, color=colour, index=-number)
        for number, (text, colour) in says.items()
    }
    return (
        _stat(title, description, [(expression, "")], width, height=3)
        .mappings([dashboard.ValueMap(options=results)])
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .no_value("No instance of this group is known")
    )


def stat(
    title: str, description: str, expression: str, unit: str, *limits: Limit, width: int = 4, sparkline: bool = True
) -> Stat:
    """One number, in the colour of the last limit that it reaches."""
    mode = common.BigValueGraphMode.AREA if sparkline else common.BigValueGraphMode.NONE
    return (
        _stat(title, description, [(expression, "")], width, height=4)
        .unit(unit)
        .thresholds(_thresholds(limits))
        .graph_mode(mode)
        .color_mode(common.BigValueColorMode.VALUE)
    )


def _stat(title: str, description: str, queries: list[Query], width: int, height: int) -> Stat:
    panel = Stat().reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]))
    return _filled(panel, title, description, queries, width, height).graph_mode(common.BigValueGraphMode.NONE)


def lines(
    title: str, description: str, unit: str, *queries: Query, limits: tuple[Limit, ...] = (), stacked: bool = False
) -> TimeSeries:
    """Values over time; `limits` are shown as lines."""
    panel = (
        _filled(TimeSeries(), title, description, list(queries), 8, 8)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(60 if stacked else 10)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(
            build.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .tooltip(build.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(build.StackingConfig().mode(common.StackingMode.NORMAL))
    if limits:
        style = build.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.LINE)
        panel = panel.thresholds(_thresholds(limits)).thresholds_style(style)
    return panel


def timeline(title: str, description: str, expression: str, legend: str, colours: dict[str, str]) -> StateTimeline:
    """When each series was 1; `colours` by series."""
    off = {"0": dashboard.ValueMappingResult(text="no", color="transparent")}
    on = {"1": dashboard.ValueMappingResult(text="yes")}
    panel = (
        _filled(StateTimeline(), title, description, [(expression, legend)], 8, 8)
        .mappings([dashboard.ValueMap(options=off | on)])
        .show_value(common.VisibilityMode.NEVER)
        .color_scheme(make.FieldColor().mode(dashboard.FieldColorModeId.FIXED).fixed_color(ORANGE))
    )
    for series, colour in colours.items():
        value = {"mode": "fixed", "fixedColor": colour}
        panel = panel.override_by_regexp(series, [dashboard.DynamicConfigValue(id_val="color", value=value)])
    return panel


def table(title: str, description: str, unit: str, columns: dict[str, str], *, hide: list[str]) -> Table:
    """The last values, a row for each set of labels; `columns`: heading -> expression. `hide`: labels not shown."""
    panel = _filled(Table(), title, description, [], 24, 9).unit(unit)
    for heading, expression in columns.items():
        query = Dataquery().expr(expression).instant().format(PromQueryFormat.TABLE).ref_id(heading.replace(" ", "_"))
        panel = panel.with_target(query.datasource(SOURCE))
    names = {f"Value #{heading.replace(' ', '_')}": heading for heading in columns}
    names |= {"Value": next(iter(columns))}
    organized = {"excludeByName": dict.fromkeys(["Time", "__name__", "job", *hide], True), "renameByName": names}
    return panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={})).with_transformation(
        dashboard.DataTransformerConfig(id_val="organize", options=organized)
    )


def row(title: str) -> make.Row:
    """A heading over the panels that follow."""
    return make.Row(title)


def _filled(panel: _Panel, title: str, description: str, queries: list[Query], width: int, height: int) -> _Panel:
    panel = panel.title(title).description(description).datasource(SOURCE).span(width).height(height)
    for number, (expression, legend) in enumerate(queries):
        query = Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number)).range()
        panel = panel.with_target(query.datasource(SOURCE))
    return panel


def _thresholds(limits: tuple[Limit, ...]) -> make.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color=GREEN)]
    steps += [dashboard.Threshold(value=limit.value, color=limit.colour) for limit in limits]
    return make.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
