"""Tests of runs and of what one saves against another, on hand-made curves."""

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.reporting.comparison import ArmRun, TaskScores, compute_saved, first_reach


def arm_run(arm: str, losses: list[float], *, scoring: int = 0, seed: int = 0, **fields) -> ArmRun:
    """A run with a loss after 0, 10, 20, ... steps of 7 FLOPs each."""
    curve = tuple((10 * index, loss) for index, loss in enumerate(losses))
    names = {"loss": "minilm", "student": "2x9x3x7", **fields}
    return ArmRun(
        arm=arm,
        seed=seed,
        steps=curve[-1][0],
        step_flops=7,
        scoring_flops=scoring,
        curve=curve,
        **names,
    )


NONE = arm_run("none", [5.0, 3.0, 2.0, 1.0, 0.8, 0.5])


def test_reached_between_points_counts_at_the_later_one():
    run = arm_run("impt", [2.0, 0.6, 0.4, 0.3, 0.2, 0.1], scoring=35)
    assert compute_saved(run, NONE) == pytest.approx(1 - (35 + 20 * 7) / (50 * 7))


def test_reached_exactly_counts():
    assert compute_saved(arm_run("rand", [4, 3, 0.5, 0.6, 0.6, 0.6]), NONE) == pytest.approx(0.6)


def test_reached_before_the_first_step_costs_only_the_scoring():
    assert compute_saved(arm_run("impt", [0.4, 0.3], scoring=7), NONE) == pytest.approx(0.98)
    assert compute_saved(arm_run("rand", [0.4, 0.3]), NONE) == 1.0


def test_not_reached_is_none():
    assert compute_saved(arm_run("rand", [4.0, 2.0, 0.51]), NONE) is None
    assert compute_saved(arm_run("rand", [4.0, math.nan, math.nan]), NONE) is None


def test_later_than_the_baseline_is_negative():
    late = arm_run("rand", [5, 4, 4, 4, 4, 0.5], scoring=70)
    assert compute_saved(late, NONE) == pytest.approx(-0.2)


def test_task_scores_before_the_end_count_what_was_spent_until_then():
    scores = {"glue/sst2": TaskScores("accuracy", ((2, 0.8),))}
    runs = [arm_run("none", [1.0] * 6, downstream=scores) for _ in range(2)]
    assert compute_saved(*runs, "glue/sst2") == 0.0


def test_task_scores_are_better_when_higher():
    def with_scores(arm, values):
        points = tuple((10 * index, value) for index, value in enumerate(values))
        return arm_run(arm, [1.0] * 6, downstream={"sts-probe": TaskScores("spearman", points)})

    none = with_scores("none", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    impt = with_scores("impt", [0.3, 0.5, 0.59, 0.61, 0.7, 0.7])
    assert compute_saved(impt, none, "sts-probe") == pytest.approx(1 - 30 / 50)
    assert compute_saved(none, impt, "sts-probe") is None


@settings(max_examples=40)
@given(
    losses=st.lists(st.floats(0.0, 9.0), min_size=1, max_size=8),
    target=st.floats(0.0, 9.0),
)
def test_first_reach_is_the_first_and_mirrors(losses, target):
    points = [(3 * index, loss) for index, loss in enumerate(losses)]
    step = first_reach(points, target)
    good = [place for place, loss in points if loss <= target]
    assert step == (min(good) if good else None)
    mirrored = [(place, -loss) for place, loss in points]
    assert first_reach(mirrored, -target, higher_is_better=True) == step


def test_more_scoring_saves_strictly_less():
    saved = [compute_saved(arm_run("impt", [2, 0.5], scoring=s), NONE) for s in (0, 1, 2)]
    assert saved[0] > saved[1] > saved[2]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
