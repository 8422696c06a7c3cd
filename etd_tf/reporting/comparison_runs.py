"""Single runs of a comparison, and what one saves against another.

Source: Chen et al. 2021 (arXiv 2104.11928): with extraction, distillation needs about
30 % of the compute that a randomly initialised student needs for the same quality.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TypeAlias

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
