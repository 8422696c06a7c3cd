"""Arms side by side: the seeds of each arm together, and everything that is reported."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from etd_tf.reporting.comparison_runs import BASELINE, ArmRun, Point, compute_saved
from etd_tf.reporting.report import Machine, ModelFacts

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
        mean: Mean.
        low: Smallest.
        high: Largest.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarises at least one value."""
        return cls(statistics.fmean(values), min(values), max(values))


@dataclasses.dataclass(frozen=True)
class Saving:
    """Compute saved by an arm, seed against the same seed of the baseline.

    Attributes:
        by_seed: Share by seed, None where not reached; only seeds that the baseline has.
    """

    by_seed: dict[int, float | None]

    @property
    def spread(self) -> Spread | None:
        """The share over seeds; None unless every seed reached the baseline."""
        values = [value for value in self.by_seed.values() if value is not None]
        if not values or len(values) < len(self.by_seed):
            return None
        return Spread.of(values)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values: the mean, its interval, and the seeds."""
        spread = self.spread
        return {
            "compute_saved": None if spread is None else spread.mean,
            "compute_saved_range": None if spread is None else [spread.low, spread.high],
            "compute_saved_by_seed": {str(seed): value for seed, value in self.by_seed.items()},
        }


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """A point of a mean curve.

    Attributes:
        step: Optimizer step.
        flops: Operations until then, scoring included.
        value: The number over seeds.
    """

    step: int
    flops: int
    value: Spread

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {"step": self.step, "flops": self.flops, **dataclasses.asdict(self.value)}


@dataclasses.dataclass(frozen=True)
class TaskSummary:
    """An arm's downstream scores on one task.

    Attributes:
        metric: What is measured.
        points: Mean scores at the steps that every seed has.
        by_seed: Each seed's scores by step.
        saving: Compute saved by the score instead of the held-out loss.
    """

    metric: str
    points: tuple[CurvePoint, ...]
    by_seed: dict[int, dict[int, float]]
    saving: Saving

    def to_dict(self) -> dict[str, Any]:
        """Returns the task's entry of an arm."""
        return {
            "metric": self.metric,
            **self.saving.to_dict(),
            "points": [point.to_dict() for point in self.points],
            "by_seed": {
                str(seed): {str(step): score for step, score in scores.items()}
                for seed, scores in self.by_seed.items()
            },
        }


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """All seeds of one arm under one loss and student size.

    Attributes:
        runs: The runs, by seed.
        saving: Compute saved against the baseline; empty for the baseline itself.
        curve: Mean held-out loss at the steps that every seed has.
        downstream: Scores by task.
    """

    runs: tuple[ArmRun, ...]
    saving: Saving
    curve: tuple[CurvePoint, ...]
    downstream: dict[str, TaskSummary]

    @property
    def first(self) -> ArmRun:
        """A run, for what all seeds share."""
        return self.runs[0]

    @property
    def final_loss(self) -> Spread:
        """Held-out loss after the last step."""
        return Spread.of([run.final_loss for run in self.runs])

    def to_dict(self) -> dict[str, Any]:
        """Returns the arm's entry in `compare.json`."""
        first, final = self.first, self.final_loss
        return {
            "loss": first.loss,
            "student": first.student,
            "arm": first.arm,
            "seeds": [run.seed for run in self.runs],
            "steps": first.steps,
            "flops": first.flops(first.steps),
            "scoring_flops": first.scoring_flops,
            "final_loss": final.mean,
            "final_loss_range": [final.low, final.high],
            **self.saving.to_dict(),
            "seconds": statistics.fmean(run.seconds for run in self.runs),
            "curve": [point.to_dict() for point in self.curve],
            "downstream": {name: task.to_dict() for name, task in self.downstream.items()},
        }


def summarize(runs: Sequence[ArmRun]) -> tuple[ArmSummary, ...]:
    """Puts the seeds of each arm together and compares it with its baseline.

    Args:
        runs: Finished runs in any order; a baseline may be missing.

    Returns:
        One summary for each loss, student and arm, in the order of first appearance.
    """
    groups: dict[tuple[str, str, str], list[ArmRun]] = {}
    for run in runs:
        groups.setdefault((run.loss, run.student, run.arm), []).append(run)
    return tuple(
        _summary(
            sorted(group, key=lambda run: run.seed),
            {run.seed: run for run in groups.get((loss, student, BASELINE), [])}
            if arm != BASELINE
            else {},
        )
        for (loss, student, arm), group in groups.items()
    )


def _summary(runs: list[ArmRun], baselines: Mapping[int, ArmRun]) -> ArmSummary:
    first = runs[0]
    pairs = [(run, baselines[run.seed]) for run in runs if run.seed in baselines]
    downstream = {}
    for task in dict.fromkeys(task for run in runs for task in run.downstream):
        have = [run for run in runs if task in run.downstream]
        both = [(run, base) for run, base in pairs if task in run.downstream]
        saving = {
            run.seed: compute_saved(run, base, task)
            for run, base in both
            if task in base.downstream
        }
        downstream[task] = TaskSummary(
            have[0].downstream[task].metric,
            _mean_curve(first, [run.downstream[task].points for run in have]),
            {run.seed: dict(run.downstream[task].points) for run in have},
            Saving(saving),
        )
    return ArmSummary(
        tuple(runs),
        Saving({run.seed: compute_saved(run, base) for run, base in pairs}),
        _mean_curve(first, [run.curve for run in runs]),
        downstream,
    )


def _mean_curve(run: ArmRun, curves: Sequence[Sequence[Point]]) -> tuple[CurvePoint, ...]:
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, value in curve:
            by_step.setdefault(step, []).append(value)
    return tuple(
        CurvePoint(step, run.flops(step), Spread.of(values))
        for step, values in sorted(by_step.items())
        if len(values) == len(curves)
    )


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
            "cells": [summary.to_dict() for summary in summarize(self.runs)],
            "labels": dict(self.labels),
            "teacher": dataclasses.asdict(self.teacher),
            "teacher_scores": dict(self.teacher_scores),
            "machine": dataclasses.asdict(self.machine),
            "data": dict(self.data),
            "flags": dict(self.flags),
        }
