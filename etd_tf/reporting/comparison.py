"""Arms side by side: runs, what one saves against another, and everything that is reported.

Source: Chen et al. 2021 (arXiv 2104.11928): with extraction, distillation needs about
30 % of the compute that a randomly initialised student needs for the same quality.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from etd_tf.reporting.report import Machine, ModelFacts

SCHEMA_VERSION = 1

BASELINE = "none"
"""The arm that the others are compared with: random initialisation."""

Point: TypeAlias = tuple[int, float]
"""Optimizer step, and a value measured after it."""


def as_number(value: float | None) -> float:
    """A number of a JSON file, which has null where it was not finite."""
    return float("nan") if value is None else float(value)


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """Downstream scores of one run's students.

    Attributes:
        metric: What is measured, higher is better.
        points: Scores of the students kept at some steps, ascending.
    """

    metric: str
    points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class ArmRun:
    """One finished distillation run.

    Attributes:
        loss: Name of the distillation loss.
        student: The student's sizes, layers x hidden x heads x intermediate.
        arm: How the student was initialised.
        seed: Seed of data order, dropout and random choices.
        steps: Optimizer steps.
        step_flops: Operations of one step: teacher forward, student forward and backward.
        scoring_flops: Operations before the first step: scoring, compensation.
        curve: Held-out loss after some steps, ascending, 0 and the last included.
        seconds: Wall time of the training, held-out evaluations included.
        downstream: Scores by task.
        neighbours: Share of a sentence encoder's neighbours that the student finds, see
            `etd_tf.evaluation.fidelity`; None for other teachers.
    """

    loss: str
    student: str
    arm: str
    seed: int
    steps: int
    step_flops: int
    scoring_flops: int
    curve: tuple[Point, ...]
    seconds: float = 0.0
    downstream: Mapping[str, TaskScores] = dataclasses.field(default_factory=dict)
    neighbours: float | None = None

    def flops(self, step: int) -> int:
        """Operations until the end of a step, scoring included."""
        return self.scoring_flops + step * self.step_flops

    @property
    def final_loss(self) -> float:
        """Held-out loss after the last step."""
        return self.curve[-1][1]


def first_reach(
    points: Iterable[Point], target: float, *, higher_is_better: bool = False
) -> int | None:
    """Finds the first measured step at which a value is as good as a target.

    Nothing is interpolated: between two points the later one counts.

    Args:
        points: Steps and values, ascending by step; a NaN reaches nothing.
        target: The value to reach.
        higher_is_better: Whether reaching means at least or at most the target.

    Returns:
        The step, or None where the target is never reached.
    """
    for step, value in points:
        if value >= target if higher_is_better else value <= target:
            return step
    return None


def compute_saved(run: ArmRun, baseline: ArmRun, task: str | None = None) -> float | None:
    """Share of the baseline's compute that a run does without.

    Args:
        run: The run, usually of an extracted student.
        baseline: The randomly initialised one of the same seed.
        task: Compare scores of this downstream task; default: held-out losses.

    Returns:
        1 - FLOPs until `run` first is as good as the finished `baseline` / FLOPs of the
        whole `baseline`, importance scoring included; None where that never happens. For a
        task, the last student that was scored stands for the finished one.
    """
    if task is None:
        last, step = baseline.steps, first_reach(run.curve, baseline.final_loss)
    else:
        last, target = baseline.downstream[task].points[-1]
        step = first_reach(run.downstream[task].points, target, higher_is_better=True)
    return None if step is None else 1.0 - run.flops(step) / baseline.flops(last)


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
        values = dataclasses.asdict(self)
        finished, planned = len(values.pop("runs")), values.pop("planned")
        return {
            "schema_version": SCHEMA_VERSION,
            "complete": finished == planned,
            "runs_finished": finished,
            "runs_planned": planned,
            "cells": make_cells(self.runs),
            **values,
        }
