"""Held-out loss against cost, a few arms a chart."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from etd_tf.extraction.starts import STARTS
from etd_tf.reporting.charts import Series, line_chart
from etd_tf.reporting.comparison import BASELINE, as_number

_FIRST = STARTS[BASELINE].chart
_BASELINE_COLOUR = 0
_UNITS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
_SHOWN_FROM = 0.05  # of the steps: the loss of untrained students would flatten all the rest


def cell_charts(cells: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """Draws the arms of one loss and student, entries of `compare.json`, with names for readers.

    Returns:
        HTML figures, without those that would show nothing of their own.
    """
    by_arm = {cell["arm"]: cell for cell in cells}
    unit, name = _unit(max(point["flops"] for cell in cells for point in cell["curve"]))
    ceiling = max(map(_ceiling, cells))
    charts = []
    for title, arms in _arms_by_chart(by_arm).items():
        # An arm that is in every chart has the same colour everywhere.
        first = _BASELINE_COLOUR + (BASELINE not in arms)
        colours = {arm: first + index for index, arm in enumerate(arms)}
        present = [arm for arm in arms if arm in by_arm]
        lines = [
            _series(by_arm[arm], labels.get(arm, arm), colours[arm], unit, ceiling)
            for arm in present
        ]
        if BASELINE in by_arm:
            lines.append(_target(by_arm[BASELINE], unit))
        heading = f"{title}: held-out loss over {name} spent"
        width, height = (860, 300) if title == _FIRST else (420, 220)
        charts.append(
            line_chart(
                lines,
                title=heading,
                x_label=f"{name}, scoring included",
                width=width,
                height=height,
            )
        )
    return charts[0] + f'<div class="grid2">{"".join(charts[1:])}</div>'


def _arms_by_chart(shown: Collection[str]) -> dict[str, list[str]]:
    """Arms by chart: the baseline, what every chart shows, the chart's own ones."""
    common = [name for name, start in STARTS.items() if not start.chart]
    charts: dict[str, list[str]] = {_FIRST: [BASELINE, *common]}
    for name in dict.fromkeys((*STARTS, *shown)):
        title = STARTS[name].chart if name in STARTS else _FIRST
        if title and name != BASELINE:
            charts.setdefault(title, list(common)).append(name)
    own = {title: set(arms) - set(common) for title, arms in charts.items()}
    return {
        title: arms
        for title, arms in charts.items()
        if title == _FIRST or not own[title].isdisjoint(shown)
    }


def _ceiling(cell: Mapping[str, Any]) -> float:
    """The loss of an arm early in its run."""
    early = _SHOWN_FROM * cell["steps"]
    late = [as_number(point["high"]) for point in cell["curve"] if point["step"] >= early]
    return max(filter(math.isfinite, late), default=0.0)


def _target(baseline: Mapping[str, Any], unit: float) -> Series:
    """The final loss of the baseline, as a level."""
    costs = [point["flops"] / unit for point in baseline["curve"]]
    level = as_number(baseline["final_loss"])
    label = "final loss of random initialisation"
    return Series(
        label, [costs[0], costs[-1]], [level, level], colour=_BASELINE_COLOUR, dashed=True
    )


def _series(
    cell: Mapping[str, Any], label: str, colour: int, unit: float, ceiling: float
) -> Series:
    points = [point for point in cell["curve"] if as_number(point["mean"]) <= ceiling]
    several = len(cell["seeds"]) > 1
    return Series(
        label,
        [point["flops"] / unit for point in points],
        [point["mean"] for point in points],
        colour=colour,
        markers=True,
        low=[point["low"] for point in points] if several else (),
        high=[min(point["high"], ceiling) for point in points] if several else (),
    )


def _unit(largest: int) -> tuple[float, str]:
    """A unit in which costs are whole numbers with some digits."""
    for value, name in _UNITS:
        if largest >= 10 * value:
            return value, name
    return 1.0, "FLOP"
