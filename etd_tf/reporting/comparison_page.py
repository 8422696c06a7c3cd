"""The comparison as one HTML page, and its files."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from etd_tf.reporting import numbers
from etd_tf.reporting.comparison import ArmSummary, Comparison, Saving, Spread, summarize
from etd_tf.reporting.comparison_charts import cell_charts
from etd_tf.reporting.comparison_runs import BASELINE, first_reach
from etd_tf.reporting.markup import Cell, section, table
from etd_tf.reporting.sections import cards, document, measured_on, run_again
from etd_tf.reporting.writing import standard_json
from etd_tf.storage.atomic import write_atomically

PAGE_FILE, DATA_FILE = "compare.html", "compare.json"
_MAX_CARDS = 4
_NOT_REACHED = "not reached"
_HOW = (
    "Compute saved: 1 \u2212 operations until an arm's held-out loss first is as low as the final "
    "one of random initialisation / operations of that whole run. Importance scoring counts; "
    "losses are read where they were measured, without interpolation; each seed is compared with "
    "the same seed. Brackets: lowest and highest seed."
)

_Group: TypeAlias = Sequence[ArmSummary]  # the arms of one loss and student


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes `compare.html` and `compare.json`.

    Args:
        folder: An existing directory.
        comparison: What to write.
    """
    write_atomically(folder / PAGE_FILE, render_comparison(comparison))
    values = standard_json(comparison.to_dict())
    write_atomically(folder / DATA_FILE, json.dumps(values, indent=2) + "\n")


def render_comparison(comparison: Comparison) -> str:
    """Renders a comparison.

    Args:
        comparison: The comparison.

    Returns:
        A complete HTML document without scripts and external resources.
    """
    groups: dict[tuple[str, str], list[ArmSummary]] = {}
    for summary in summarize(comparison.runs):
        groups.setdefault((summary.first.loss, summary.first.student), []).append(summary)
    subtitle = comparison.created.replace("T", " ")
    if len(comparison.runs) < comparison.planned:
        subtitle += f" \u00b7 {len(comparison.runs)} of {comparison.planned} runs so far"
    sections = [
        cards(_cards(comparison, list(groups.values()))),
        _overview(comparison, groups),
        *(_cell(comparison, group) for group in groups.values()),
        _failures(comparison),
        measured_on(comparison.machine, comparison.data),
        run_again(comparison.command, comparison.flags),
    ]
    return document(comparison.title, subtitle, sections)


def _cards(comparison: Comparison, groups: Sequence[_Group]) -> list[tuple[str, str, str]]:
    """The best saving of each cell in large numbers."""
    found = []
    for group in groups[:_MAX_CARDS]:
        savers = [(s.saving.spread.mean, s) for s in group if s.saving.spread is not None]
        if savers:
            best = max(savers, key=lambda pair: pair[0])[1]
            cell = f"{best.first.loss}, {best.first.student}, {_seeds(best)}"
            label = _label(comparison, best)
            found.append((saved_text(best.saving, best.first.arm), f"saved by {label}", cell))
    done = f"{len(comparison.runs)} of {comparison.planned}"
    work = numbers.flops(sum(run.flops(run.steps) for run in comparison.runs))
    seconds = numbers.seconds(sum(run.seconds for run in comparison.runs))
    return [*found, (done, "runs finished", f"{work}, {seconds}")]


def _overview(comparison: Comparison, groups: dict[tuple[str, str], list[ArmSummary]]) -> str:
    """One row a loss and student, one column an arm."""
    if not groups:
        return ""
    arms = list(dict.fromkeys(s.first.arm for group in groups.values() for s in group))
    shown = [arm for arm in arms if arm != BASELINE]
    rows: list[list[Cell]] = []
    for (loss, student), group in groups.items():
        by_arm = {summary.first.arm: summary for summary in group}
        cells = [saved_text(by_arm[a].saving, a) if a in by_arm else "\u2014" for a in shown]
        rows.append([f"{loss}, {student}", *cells])
    header = ["Loss, student", *shown]
    names = table(("", ""), [[a, comparison.labels.get(a, a)] for a in arms], text_columns=(1,))
    note = f'<p class="note">{_HOW}</p>'
    return section(
        "Compute saved against random initialisation", table(header, rows) + note + names
    )


def _cell(comparison: Comparison, group: _Group) -> str:
    first = group[0].first
    header = (
        "Arm",
        "Seeds",
        "First loss",
        "Final loss",
        "Reached after",
        "Whole run",
        "Compute saved",
    )
    rows = [_arm_row(summary, group) for summary in group]
    body = cell_charts(group, comparison.labels) + table(header, rows)
    note = (
        f'<p class="note">{numbers.count(first.steps)} steps of {numbers.flops(first.step_flops)}; '
        "cost includes importance scoring. Reached: the final loss of random initialisation, mean "
        "over seeds.</p>"
    )
    return section(
        f"{first.loss}, student {first.student}", body + note + _tasks(comparison, group)
    )


def _arm_row(summary: ArmSummary, group: _Group) -> list[Cell]:
    first = summary.first
    return [
        first.arm,
        len(summary.runs),
        numbers.significant(summary.curve[0].value.mean) if summary.curve else "",
        spread_text(summary.final_loss),
        _reach(summary, group),
        numbers.flops(first.flops(first.steps)),
        saved_text(summary.saving, first.arm),
    ]


def _reach(summary: ArmSummary, group: _Group) -> str:
    """Steps until the baseline's final losses are reached, mean over seeds."""
    targets = {
        run.seed: run.final_loss
        for other in group
        if other.first.arm == BASELINE
        for run in other.runs
    }
    runs = [run for run in summary.runs if run.seed in targets]
    steps = [first_reach(run.curve, targets[run.seed]) for run in runs]
    known = [step for step in steps if step is not None]
    if summary.first.arm == BASELINE or not runs:
        return ""
    if len(known) < len(steps):
        return _NOT_REACHED
    return f"{numbers.count(statistics.fmean(known))} steps"


def _tasks(comparison: Comparison, group: _Group) -> str:
    """Downstream scores: one table a task, one column a kept student."""
    names = list(dict.fromkeys(name for summary in group for name in summary.downstream))
    return "".join(_task(comparison, group, name) for name in names)


def _task(comparison: Comparison, group: _Group, name: str) -> str:
    have = [summary for summary in group if name in summary.downstream]
    steps = sorted({point.step for s in have for point in s.downstream[name].points})
    last = max(summary.first.steps for summary in have)
    rows: list[list[Cell]] = []
    for summary in have:
        points = {point.step: point.value for point in summary.downstream[name].points}
        scores = [spread_text(points[step], 3) if step in points else "" for step in steps]
        saving = saved_text(summary.downstream[name].saving, summary.first.arm)
        rows.append([summary.first.arm, *scores, saving])
    if name in comparison.teacher_scores:
        score = numbers.significant(comparison.teacher_scores[name], 3)
        rows.append(["teacher", *("" for _ in steps[1:]), score, ""])
    metric = have[0].downstream[name].metric
    header = [f"{name}, {metric}", *(f"{100 * step / last:.0f} %" for step in steps), "Saved"]
    return table(header, rows)


def _failures(comparison: Comparison) -> str:
    if not comparison.failures:
        return ""
    rows: list[list[Cell]] = [[failure] for failure in comparison.failures]
    return section("Runs that diverged", table(("",), rows))


def saved_text(saving: Saving, arm: str) -> str:
    """A share as percent, with the lowest and highest seed where there are several.

    Args:
        saving: The share.
        arm: Whose; the baseline gets an empty text.

    Returns:
        Plain text.
    """
    spread = saving.spread
    if spread is not None:
        text = f"{_percent(spread.mean)}\u202f%"
        if len(saving.by_seed) > 1:
            text += f" ({_percent(spread.low)} to {_percent(spread.high)})"
        return text
    if not saving.by_seed:
        return "" if arm == BASELINE else "no baseline"
    reached = sum(value is not None for value in saving.by_seed.values())
    missing = len(saving.by_seed) - reached
    return f"{_NOT_REACHED} by {missing} of {len(saving.by_seed)}" if reached else _NOT_REACHED


def spread_text(spread: Spread, digits: int = 4) -> str:
    """A mean, with the lowest and highest value where they differ."""
    mean, low, high = (
        numbers.significant(value, digits) for value in (spread.mean, spread.low, spread.high)
    )
    return mean if low == high else f"{mean} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "\u2212")


def _label(comparison: Comparison, summary: ArmSummary) -> str:
    return comparison.labels.get(summary.first.arm, summary.first.arm)


def _seeds(summary: ArmSummary) -> str:
    count = len(summary.runs)
    return "1 seed" if count == 1 else f"{count} seeds"
