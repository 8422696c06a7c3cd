"""The comparison as one HTML page, and its files."""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from etd_tf.extraction.starts import STARTS
from etd_tf.reporting import numbers
from etd_tf.reporting.charts import Series, line_chart
from etd_tf.reporting.comparison import BASELINE, Comparison, as_number
from etd_tf.reporting.report import Machine
from etd_tf.reporting.sections import (
    Cell,
    cards,
    document,
    measured_on,
    run_again,
    section,
    table,
)
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import standard_json, write_json

PAGE_FILE, DATA_FILE = "compare.html", "compare.json"
_MAX_CARDS = 4
_FIRST = STARTS[BASELINE].chart
_BASELINE_COLOUR = 0
_UNITS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
_SHOWN_FROM = 0.05  # of the steps: the loss of untrained students would flatten all the rest
_NOT_REACHED = "not reached"
_HOW = (
    "Compute saved: 1 \u2212 operations until an arm's held-out loss first is as low as the final "
    "one of random initialisation / operations of that whole run. Importance scoring counts; "
    "losses are read where they were measured, without interpolation; each seed is compared with "
    "the same seed. Brackets: lowest and highest seed."
)

_Values: TypeAlias = Mapping[str, Any]  # of compare.json, or of one of its cells
_Group: TypeAlias = Sequence[_Values]  # the arms of one loss and student


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes `compare.json`, and `compare.html` from what is in it."""
    values = standard_json(comparison.to_dict())
    write_json(folder / DATA_FILE, values)
    write_atomically(folder / PAGE_FILE, render_comparison(values))


def render_comparison(values: Mapping[str, Any]) -> str:
    """Renders the content of a comparison's `compare.json`.

    Returns:
        A complete HTML document without scripts and external resources.
    """
    groups: dict[tuple[str, str], list[_Values]] = {}
    for cell in values["cells"]:
        groups.setdefault((cell["loss"], cell["student"]), []).append(cell)
    subtitle = values["created"].replace("T", " ")
    finished, planned = values["runs_finished"], values["runs_planned"]
    if finished < planned:
        subtitle += f" \u00b7 {finished} of {planned} runs so far"
    sections = [
        cards(_cards(values, list(groups.values()))),
        _overview(values, groups),
        *(_cell(values, group) for group in groups.values()),
        _failures(values),
        measured_on(Machine(**values["machine"]), values["data"]),
        run_again(values["command"], values["flags"]),
    ]
    return document(values["title"], subtitle, sections)


def _cards(values: _Values, groups: Sequence[_Group]) -> list[tuple[str, str, str]]:
    """The best saving of each cell in large numbers."""
    found = []
    for group in groups[:_MAX_CARDS]:
        savers = [cell for cell in group if cell["compute_saved"] is not None]
        if savers:
            best = max(savers, key=lambda cell: float(cell["compute_saved"]))
            count = len(best["seeds"])
            seeds = "1 seed" if count == 1 else f"{count} seeds"
            where = f"{best['loss']}, {best['student']}, {seeds}"
            label = values["labels"].get(best["arm"], best["arm"])
            found.append((saved_text(best, best["arm"]), f"saved by {label}", where))
    done = f"{values['runs_finished']} of {values['runs_planned']}"
    cells = values["cells"]
    work = numbers.flops(sum(len(cell["seeds"]) * cell["flops"] for cell in cells))
    seconds = numbers.seconds(sum(len(cell["seeds"]) * cell["seconds"] for cell in cells))
    return [*found, (done, "runs finished", f"{work}, {seconds}")]


def _overview(values: _Values, groups: Mapping[tuple[str, str], _Group]) -> str:
    """One row a loss and student, one column an arm."""
    if not groups:
        return ""
    arms = list(dict.fromkeys(cell["arm"] for cell in values["cells"]))
    shown = [arm for arm in arms if arm != BASELINE]
    rows: list[list[Cell]] = []
    for (loss, student), group in groups.items():
        by_arm = {cell["arm"]: cell for cell in group}
        found = [saved_text(by_arm[a], a) if a in by_arm else "\u2014" for a in shown]
        rows.append([f"{loss}, {student}", *found])
    header = ["Loss, student", *shown]
    names = table(("", ""), [[a, values["labels"].get(a, a)] for a in arms], text_columns=(1,))
    note = f'<p class="note">{_HOW}</p>'
    return section(
        "Compute saved against random initialisation", table(header, rows) + note + names
    )


def _cell(values: _Values, group: _Group) -> str:
    first = group[0]
    header = ["Arm", "Seeds", "First loss", "Final loss", "Reached after", "Whole run"]
    header += ["Compute saved", *["Neighbours found"] * _has_neighbours(group)]
    baseline = next((cell for cell in group if cell["arm"] == BASELINE), None)
    body = _charts(group, values["labels"])
    rows = [_arm_row(cell, baseline) for cell in group]
    if _has_neighbours(group):
        rows = [[*row, _neighbours(cell)] for row, cell in zip(rows, group, strict=True)]
    body += table(header, rows)
    note = (
        f'<p class="note">{numbers.count(first["steps"])} steps of '
        f"{numbers.flops(_step_flops(first))}; "
        "cost includes importance scoring. Reached: the final loss of random initialisation, mean "
        "over seeds.</p>"
    )
    names = dict.fromkeys(name for cell in group for name in cell["downstream"])
    tasks = "".join(_task(values, group, name) for name in names)
    return section(f"{first['loss']}, student {first['student']}", body + note + tasks)


def _charts(cells: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """Held-out loss of the arms of one loss and student against cost, a few arms a chart."""
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


def _has_neighbours(group: _Group) -> bool:
    """Whether the teacher is a sentence encoder."""
    return any("neighbours" in cell for cell in group)


def _neighbours(cell: _Values) -> str:
    if "neighbours" not in cell:
        return ""
    return spread_text(cell["neighbours"], *cell["neighbours_range"], digits=3)


def _step_flops(cell: _Values) -> float:
    return float((cell["flops"] - cell["scoring_flops"]) / cell["steps"])


def _arm_row(cell: _Values, baseline: _Values | None) -> list[Cell]:
    curve = cell["curve"]
    return [
        cell["arm"],
        len(cell["seeds"]),
        numbers.significant(as_number(curve[0]["mean"])) if curve else "",
        spread_text(cell["final_loss"], *cell["final_loss_range"]),
        _reach(cell, baseline),
        numbers.flops(cell["flops"]),
        saved_text(cell, cell["arm"]),
    ]


def _reach(cell: _Values, baseline: _Values | None) -> str:
    """Steps until the baseline's final losses are reached, mean over seeds."""
    shares = cell["compute_saved_by_seed"].values()
    if not shares or baseline is None:
        return ""
    if None in shares:
        return _NOT_REACHED
    costs = [(1 - share) * baseline["flops"] - cell["scoring_flops"] for share in shares]
    steps = [round(cost / _step_flops(cell)) for cost in costs]
    return f"{numbers.count(statistics.fmean(steps))} steps"


def _task(values: _Values, group: _Group, name: str) -> str:
    """Downstream scores, one column a kept student."""
    have = [cell for cell in group if name in cell["downstream"]]
    steps = sorted({point["step"] for c in have for point in c["downstream"][name]["points"]})
    last = max(cell["steps"] for cell in have)
    rows: list[list[Cell]] = []
    for cell in have:
        task = cell["downstream"][name]
        points = {p["step"]: (p["mean"], p["low"], p["high"]) for p in task["points"]}
        scores = [spread_text(*points[step], digits=3) if step in points else "" for step in steps]
        rows.append([cell["arm"], *scores, saved_text(task, cell["arm"])])
    if name in values["teacher_scores"]:
        score = numbers.significant(as_number(values["teacher_scores"][name]), 3)
        rows.append(["teacher", *("" for _ in steps[1:]), score, ""])
    metric = have[0]["downstream"][name]["metric"]
    header = [f"{name}, {metric}", *(f"{100 * step / last:.0f} %" for step in steps), "Saved"]
    return table(header, rows)


def _failures(values: _Values) -> str:
    if not values["failures"]:
        return ""
    rows: list[list[Cell]] = [[failure] for failure in values["failures"]]
    return section("Runs that diverged", table(("",), rows))


def saved_text(saving: Mapping[str, Any], arm: str) -> str:
    """A share as percent, with the lowest and highest seed where there are several.

    Args:
        saving: What `compare.json` says of the share: an arm's entry, or that of its task.
        arm: Whose; the baseline gets an empty text.
    """
    share, by_seed = saving["compute_saved"], saving["compute_saved_by_seed"]
    if share is not None:
        text = f"{_percent(share)}\u202f%"
        if len(by_seed) > 1:
            low, high = saving["compute_saved_range"]
            text += f" ({_percent(low)} to {_percent(high)})"
        return text
    if not by_seed:
        return "" if arm == BASELINE else "no baseline"
    missing = sum(value is None for value in by_seed.values())
    return (
        _NOT_REACHED
        if missing == len(by_seed)
        else f"{_NOT_REACHED} by {missing} of {len(by_seed)}"
    )


def spread_text(
    mean: float | None, low: float | None, high: float | None, *, digits: int = 4
) -> str:
    """A mean, with the lowest and highest value where they differ."""
    texts = [numbers.significant(as_number(value), digits) for value in (mean, low, high)]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "\u2212")
