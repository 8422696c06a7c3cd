"""Tests of a comparison's settings."""

import dataclasses
import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.extraction.starts import STARTS, ExtractionOptions
from etd_tf.jobs.compare_types import (
    CompareOptions,
    default_evaluations,
)
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import CorpusOptions, HardwareOptions, StudentSize
from etd_tf.training import TrainerOptions


def compare_options(**changes) -> CompareOptions:
    base = DistillOptions(
        teacher="teacher",
        output_dir=Path("out"),
        student=StudentSize(),
        extraction=ExtractionOptions(importance_examples=9),
        corpus=CorpusOptions(("text.txt",)),
        trainer=TrainerOptions(steps=40, batch_size=4),
        hardware=changes.pop("hardware", HardwareOptions()),
    )
    fields = {
        "base": base,
        "losses": ("minilm", "tinybert"),
        "students": (StudentSize.parse("2x9x3x7"), StudentSize.parse("1x9x3x7")),
        "seeds": (3, 5),
        **changes,
    }
    return CompareOptions(**fields)


@settings(max_examples=50)
@given(steps=st.integers(1, 20_000))
def test_default_evaluations_are_dense_early_and_regular_later(steps):
    points = default_evaluations(steps)
    assert list(points) == sorted(set(points))
    assert points[0] == 1
    assert points[-1] == steps
    # never more than a 20th of the run apart, and early never more than twice the step before
    gaps = [after - before for before, after in itertools.pairwise((0, *points))]
    assert max(gaps) <= -(-steps // 20) + 1
    early = [step for step in points if step <= steps / 20]
    assert all(after <= 2 * before for before, after in itertools.pairwise(early))
    # in between, savings are told to a 100th
    middle = [step for step in points if steps / 20 <= step <= steps / 5]
    assert all(b - a <= -(-steps // 100) for a, b in itertools.pairwise(middle))


def test_students_are_read_and_written():
    size = StudentSize.parse(" 6x384x12x1536")
    assert size == StudentSize(6, 384, 12, 1536)
    assert str(size) == "6x384x12x1536"


@pytest.mark.parametrize("text", ["", "6x384x12", "6x384x12x0", "6x384x12x1536x2", "axbxcxd"])
def test_other_students_are_refused(text):
    with pytest.raises(InputError, match=r"e\.g\. 6x384x12x1536"):
        StudentSize.parse(text)


def test_runs_finish_one_seed_before_the_next():
    runs = list(compare_options(arms=("none", "impt")).runs())
    assert len(runs) == len(set(runs)) == 2 * 2 * 2 * 2
    assert [run.seed for run in runs] == [3] * 8 + [5] * 8
    assert [run.arm for run in runs[:4]] == ["none", "impt", "none", "impt"]
    assert runs[0].folder == "minilm-2x9x3x7/none-seed3"
    assert len({run.folder for run in runs}) == 16


def test_a_sum_of_losses_is_an_arm():
    losses = ("minilm", " minilm + mlm@.5")
    given = {"minilm": {"teacher_layer": 1}, "mlm": {"temperature": 3.0}}
    options = compare_options(losses=losses, loss_options=given, seeds=(0,), arms=("none",))
    plain, _, summed, _ = options.runs()
    assert plain.folder == "minilm-2x9x3x7/none-seed0"
    assert summed.folder == "minilm+mlm@0.5-2x9x3x7/none-seed0"
    alone, job = (options.distill_options(run, Path("out")) for run in (plain, summed))
    assert (alone.loss, list(alone.weights)) == (("minilm",), [1.0])
    assert (job.loss, job.loss_weights) == (("minilm", "mlm"), (1.0, 0.5))
    minilm, logits = job.make_losses()
    assert (minilm.teacher_layer, logits.temperature) == (1, 3.0)
    # only one of the two masks its input
    assert [len(group) for group in options.groups(list(options.runs()))] == [2, 2]


def test_all_arms_share_everything_but_the_initialisation():
    options = compare_options(arms=tuple(arm for arm in STARTS if arm != "depth"), seeds=(0,))
    first = None
    for run in itertools.islice(options.runs(), len(options.arms)):
        job = options.distill_options(run, Path("out"))
        assert job.extraction.start is STARTS[run.arm]
        assert job.extraction.importance_examples == 9
        neutral = ExtractionOptions()
        common = dataclasses.replace(job, output_dir=Path(), extraction=neutral)
        first = first or common
        assert common == first


def test_evaluations_include_what_is_kept():
    options = compare_options(evaluate_at=(7,), snapshots=(0, 25, 100))
    assert options.evaluations() == (7, 10, 40)
    assert options.distill_options(next(options.runs()), Path()).trainer.evaluate_at == (7, 10, 40)
    assert options.held_out_batches == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("none", "best")}, "arms=best is unknown; choose from none, rand, impt"),
        ({"arms": ()}, "arms=: expected at least one value"),
        ({"arms": ("none", "none")}, "none twice"),
        ({"losses": ("bert",)}, "losses=bert is unknown; choose from tinybert"),
        ({"losses": ("minilm+bert",)}, "losses=bert is unknown; .* with \\+ between losses"),
        ({"losses": ("minilm+minilm",)}, "minilm\\+minilm names a loss twice"),
        ({"losses": ("mlm@x",)}, "losses=mlm@x: the weight 'x' is no positive number"),
        ({"losses": ("mlm@-1",)}, "is no positive number"),
        ({"losses": ("mlm@",)}, "is no positive number"),
        ({"losses": ("mlm+minilm", "mlm@1 + minilm")}, "none twice"),
        (
            {"students": (StudentSize(1, 3, 1, 2),) * 2},
            "students=1x3x1x2,1x3x1x2: .*none twice",
        ),
        ({"seeds": (-1,)}, "whole numbers >= 0"),
        ({"evaluate_at": (0, 50)}, "evaluate_at=0,50 is outside 1 to steps=40"),
        ({"snapshots": (101,)}, "snapshots=101: expected whole numbers >= 0 and <= 100"),
        ({"snapshots": (0, 50)}, "finetune_at=100 is not among snapshots=0,50"),
        ({"hardware": HardwareOptions(strategy="multi_worker")}, "use auto, one_device"),
    ],
)
def test_bad_settings_name_the_flag(changes, message):
    with pytest.raises(InputError, match=message):
        compare_options(**changes)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
