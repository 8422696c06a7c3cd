"""Tests of a comparison's settings."""

import dataclasses
import itertools
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.extraction.starts import STARTS, ExtractionOptions
from etd_tf.jobs.compare_types import (
    CompareOptions,
    DownstreamOptions,
    default_evaluations,
)
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import CorpusOptions, HardwareOptions, StudentSize
from etd_tf.training import TrainerOptions
from tests.evaluation.fixtures import write_squad, write_sst2, write_stsb


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


def test_downstream_tasks_need_data():
    with pytest.raises(InputError, match="pass glue_dir=DIR"):
        DownstreamOptions(tasks=("sts-probe",))
    with pytest.raises(InputError, match=r"choose from sts-probe, .*glue/cola"):
        DownstreamOptions(tasks=("mnli",), data={"glue_dir": "glue"})
    with pytest.raises(InputError, match="tasks=sts-probes is unknown"):
        DownstreamOptions(tasks=("sts-probes",), data={"glue_dir": "glue"})
    with pytest.raises(InputError, match=r"squad/v1\.1 needs its data: pass squad_dir=DIR"):
        DownstreamOptions(tasks=("sts-probe", "squad/v1.1"), data={"glue_dir": "glue"})
    with pytest.raises(InputError, match="none twice"):
        DownstreamOptions(tasks=("glue/rte", "glue/rte"), data={"glue_dir": "glue"})


def test_squad_has_epochs_of_its_own():
    finetune = FinetuneOptions(learning_rates=(3e-4,), epochs=5)
    options = DownstreamOptions(
        ("squad/v1.1",), data={"squad_dir": "squad"}, finetune=finetune, squad_epochs=1
    )
    assert options.finetuning("glue/rte") == finetune
    assert options.finetuning("squad/v1.1") == dataclasses.replace(finetune, epochs=1)
    assert (options.task("squad/v1.1").source, options.task("sts-probe").source) == ("squad", "")


@pytest.mark.parametrize(
    ("task", "lost"),
    [
        ("sts-probe", "glue/STS-B/dev.tsv"),
        ("glue/sst2", "glue/SST-2/dev.tsv"),
        ("glue/sst2", "glue/SST-2/train.tsv"),
        ("squad/v1.1", "squad/train-v1.1.json"),
        ("squad/v1.1", "squad/dev-v1.1.json"),
    ],
)
def test_missing_data_is_found(task, lost, tmp_path):
    write_stsb(tmp_path / "glue")
    write_sst2(tmp_path / "glue")
    write_squad(tmp_path / "squad")
    glue, squad = str(tmp_path / "glue"), str(tmp_path / "squad")
    options = DownstreamOptions((task,), {"glue_dir": glue, "squad_dir": squad})
    options.fingerprints()
    (tmp_path / lost).unlink()
    with pytest.raises(InputError, match="does not exist"):
        options.fingerprints()


@pytest.mark.parametrize(
    ("task", "changed"),
    [
        ("sts-probe", "glue/STS-B/dev.tsv"),
        ("glue/sst2", "glue/SST-2/train.tsv"),
        ("squad/v1.1", "squad/train-v1.1.json"),
    ],
)
def test_the_fingerprint_is_of_the_content(task, changed, tmp_path):
    write_stsb(tmp_path / "glue")
    write_sst2(tmp_path / "glue")
    write_squad(tmp_path / "squad")
    shutil.copytree(tmp_path / "glue", tmp_path / "copy/glue")
    shutil.copytree(tmp_path / "squad", tmp_path / "copy/squad")

    def fingerprint(folder):
        data = {f"{name}_dir": str(folder / name) for name in ("glue", "squad")}
        return DownstreamOptions((task,), data).fingerprints()

    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path / "copy") == before
    path = tmp_path / "copy" / changed
    path.write_text(path.read_text().replace("cat", "mat"))
    assert fingerprint(tmp_path / "copy") != before


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
