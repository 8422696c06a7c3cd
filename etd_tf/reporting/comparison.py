"""Arms side by side: the seeds of each arm together, and everything that is reported."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from etd_tf.reporting.comparison_runs import BASELINE, ArmRun, Point, compute_saved
from etd_tf.reporting.report import Machine, ModelFacts

SCHEMA_VERSION = 1


def make_cells(runs: Sequence[ArmRun]) -> list[dict[str, Any]]:
    """Puts the seeds of each arm together and compares it with its baseline.

    Args:
        runs: Finished runs in any order; a baseline may be missing.

    Returns:
        The entries under `cells` of `compare.json`: one for each loss, student and arm, in the
        order of first appearance.
    """
    groups: dict[tuple[str, str, str], list[ArmRun]] = {}
    for run in runs:
        groups.setdefault((run.loss, run.student, run.arm), []).append(run)
    found = []
    for (loss, student, arm), group in groups.items():
        baselines = groups.get((loss, student, BASELINE), []) if arm != BASELINE else []
        ordered = sorted(group, key=lambda run: run.seed)
        found.append(_cell(ordered, {run.seed: run for run in baselines}))
    return found


def _cell(runs: Sequence[ArmRun], baselines: Mapping[int, ArmRun]) -> dict[str, Any]:
    """All seeds of one arm; an empty `baselines` saves nothing."""
    first, finals = runs[0], [run.final_loss for run in runs]
    pairs = [(run, baselines[run.seed]) for run in runs if run.seed in baselines]
    tasks = dict.fromkeys(task for run in runs for task in run.downstream)
    return {
        "loss": first.loss,
        "student": first.student,
        "arm": first.arm,
        "seeds": [run.seed for run in runs],
        "steps": first.steps,
        "flops": first.flops(first.steps),
        "scoring_flops": first.scoring_flops,
        "final_loss": statistics.fmean(finals),
        "final_loss_range": [min(finals), max(finals)],
        **_neighbours(runs),
        **_saving({run.seed: compute_saved(run, base) for run, base in pairs}),
        "seconds": statistics.fmean(run.seconds for run in runs),
        "curve": _mean_curve(first, [run.curve for run in runs]),
        "downstream": {task: _scores(task, runs, pairs) for task in tasks},
    }


def _neighbours(runs: Sequence[ArmRun]) -> dict[str, Any]:
    """Share of neighbours that the students find; nothing where a run does not know."""
    known = [run.neighbours for run in runs if run.neighbours is not None]
    if len(known) < len(runs):
        return {}
    mean = statistics.fmean(known)
    return {"neighbours": mean, "neighbours_range": [min(known), max(known)]}


def _saving(by_seed: Mapping[int, float | None]) -> dict[str, Any]:
    """Compute saved, seed against the same seed: known unless a seed missed the baseline."""
    values = [value for value in by_seed.values() if value is not None]
    known = bool(values) and len(values) == len(by_seed)
    return {
        "compute_saved": statistics.fmean(values) if known else None,
        "compute_saved_range": [min(values), max(values)] if known else None,
        "compute_saved_by_seed": {str(seed): value for seed, value in by_seed.items()},
    }


def _scores(
    task: str, runs: Sequence[ArmRun], pairs: Sequence[tuple[ArmRun, ArmRun]]
) -> dict[str, Any]:
    """Downstream scores of an arm on one task."""
    have = [run for run in runs if task in run.downstream]
    both = [
        (run, base) for run, base in pairs if task in run.downstream and task in base.downstream
    ]
    return {
        "metric": have[0].downstream[task].metric,
        **_saving({run.seed: compute_saved(run, base, task) for run, base in both}),
        "points": _mean_curve(runs[0], [run.downstream[task].points for run in have]),
        "by_seed": {
            str(run.seed): {str(step): score for step, score in run.downstream[task].points}
            for run in have
        },
    }


def _mean_curve(run: ArmRun, curves: Sequence[Sequence[Point]]) -> list[dict[str, Any]]:
    """Means, lowest and highest values at the steps that every curve has."""
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            by_step.setdefault(step, []).append(value)
    return [
        {
            "step": step,
            "flops": run.flops(step),
            "mean": statistics.fmean(values),
            "low": min(values),
            "high": max(values),
        }
        for step, values in sorted(by_step.items())
        if len(values) == len(curves)
    ]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything that is reported of a comparison.

    Attributes:
        title: First line of the page.
        created: Date and time, ISO 8601.
        command: What repeats or continues it.
        teacher: The teacher.
        teacher_scores: The teacher's own scores by task, where no training is needed.
        labels: Names of the arms for readers.
        runs: Finished runs.
        planned: Number of runs that were asked for.
        failures: Runs that diverged, as sentences.
        machine: What it ran on.
        data: Facts about the corpus by name.
        flags: Flag values by name.
    """

    title: str
    created: str
    command: str
    teacher: ModelFacts
    labels: Mapping[str, str]
    runs: tuple[ArmRun, ...]
    planned: int
    machine: Machine
    data: Mapping[str, str | int | float]
    teacher_scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    failures: tuple[str, ...] = ()
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of `compare.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "title": self.title,
            "created": self.created,
            "command": self.command,
            "complete": len(self.runs) == self.planned,
            "runs_finished": len(self.runs),
            "runs_planned": self.planned,
            "failures": list(self.failures),
            "cells": make_cells(self.runs),
            "labels": dict(self.labels),
            "teacher": dataclasses.asdict(self.teacher),
            "teacher_scores": dict(self.teacher_scores),
            "machine": dataclasses.asdict(self.machine),
            "data": dict(self.data),
            "flags": dict(self.flags),
        }
