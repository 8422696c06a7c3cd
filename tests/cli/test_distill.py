"""Whole runs of `etd_distill` on a tiny teacher: what is made, refused and repeated."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import checkpoint as checkpoint_module
from etd_tf.checkpoints import load_checkpoint
from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND
from etd_tf.errors import Interrupted
from etd_tf.extraction import ExtractionPlan, extract
from etd_tf.jobs.distill import LAYOUT
from etd_tf.storage.workspace import Workspace
from etd_tf.training.metrics_log import read_metrics
from tests.helpers import count_builds, tiny_config
from tests.jobs.tiny_job import SIZES, job_flags, write_teacher, write_text

MASKED = {"masking_rate": 0.2, "dropout": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    write_teacher(folder / "teacher")
    write_text(folder / "text.txt")
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    """A whole run, with scoring, masking and dropout."""
    assert run_command(COMMAND, job_flags(folder, folder / "out", **MASKED)) == 0
    return folder / "out"


def _bytes(out):
    return (out / "student" / "model.safetensors").read_bytes()


def _losses(out, split):
    return [line["loss"] for line in read_metrics(out / "metrics.jsonl") if line["split"] == split]


def test_a_run_leaves_everything_in_its_place(finished):
    visible = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert visible == {
        "flags.txt",
        "identity.json",
        "plan.json",
        "scores.npz",
        "timing.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "student",
        "report.html",
        "report.json",
    }
    assert {path.name for path in finished.iterdir()} == visible
    held_out = _losses(finished, "validation")
    assert held_out[-1] < held_out[0]
    report = json.loads((finished / "report.json").read_text())
    assert report["student"]["num_layers"] == 2
    assert report["cost"]["scoring_seconds"] > 0
    assert "<html" in (finished / "report.html").read_text()


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_run_hashes_its_teacher_once_and_builds_few_models(
    folder, tmp_path, monkeypatch, precision
):
    hashed, made = [], checkpoint_module.fingerprint

    def counting(config, parameters):
        hashed.append(config.hidden_size)
        return made(config, parameters)

    monkeypatch.setattr(checkpoint_module, "fingerprint", counting)
    built = count_builds(monkeypatch)
    flags = job_flags(folder, tmp_path / "out", precision=precision, steps=2)
    assert run_command(COMMAND, flags) == 0
    assert hashed.count(tiny_config().hidden_size) == 1
    student = [precision, "float32"]  # while training, and as it is saved
    teacher = ["float32"] if precision == "float32" else ["float32", precision]
    assert sorted(built) == sorted(student + teacher)


def test_the_student_is_a_trained_slice_of_the_teacher(folder, finished):
    student = load_checkpoint(finished / "student")
    sizes = dataclasses.astuple(student.config)
    assert {2, 9, 3, 7} <= set(sizes)
    # The student keeps the teacher's dropout; --dropout is for distilling only.
    assert (
        student.config.hidden_dropout == load_checkpoint(folder / "teacher").config.hidden_dropout
    )
    plan = ExtractionPlan.load(finished / "plan.json")
    start = extract(load_checkpoint(folder / "teacher"), plan).parameters()
    trained = student.parameters()
    changed = {name for name in start if not np.array_equal(start[name], trained[name])}
    # MiniLM reads the last layer's attention: what lies above it keeps the slice's bits.
    unused = ("layers.1.intermediate", "layers.1.output.", "layers.1.output_layer_norm", "pooler")
    assert changed
    assert not any(name.startswith(unused) for name in changed)


def test_flags_txt_replays_the_run(folder, finished):
    again = folder / "again"
    flags = [f"--flagfile={finished}/flags.txt", f"--output_dir={again}", "--checkpoint_every=5"]
    assert run_command(COMMAND, flags) == 0
    assert _bytes(again) == _bytes(finished)
    assert (again / "plan.json").read_bytes() == (finished / "plan.json").read_bytes()
    assert (again / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()


def test_a_finished_run_is_refused_and_unchanged(folder, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert run_command(COMMAND, job_flags(folder, finished, **MASKED)) == 2
    assert "holds a finished run. Choose another --output_dir, or pass --overwrite" in (
        capsys.readouterr().err
    )
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert after == before


def test_scores_of_other_text_are_not_gone_on_with(folder, tmp_path, capsys, monkeypatch):
    """Interrupted after scoring, before there is a checkpoint that could tell."""
    text = write_text(tmp_path / "text.txt")
    out, flags = tmp_path / "out", job_flags(folder, tmp_path / "out", corpus=text)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("etd_tf.jobs.distill.make_trainer", stop)
        assert run_command(COMMAND, flags) == 130
    assert (out / "scores.npz").is_file()
    text.write_text(text.read_text() + "\n\nThe dog sat on the mat and the cat ran.\n")
    assert run_command(COMMAND, flags) == 2
    assert "begun with another text than the same settings name now" in capsys.readouterr().err
    assert run_command(COMMAND, [*flags, "--overwrite"]) == 0


def test_a_second_run_on_one_directory_is_refused(folder, tmp_path, capsys):
    with Workspace(LAYOUT, tmp_path).open() as run:
        run.begin({})
        (tmp_path / "flags.txt").unlink()
        (tmp_path / "identity.json").unlink()
        assert run_command(COMMAND, job_flags(folder, tmp_path)) == 2
    assert "Another run is working in" in capsys.readouterr().err


def test_a_dry_run_tells_the_cost_and_writes_nothing(folder, tmp_path, capsys):
    assert run_command(COMMAND, [*job_flags(folder, tmp_path / "out"), "--dry_run"]) == 0
    shown = capsys.readouterr().out
    for name in ("teacher", "student", "tokens", "scoring", "distillation", "memory", "disk"):
        assert f"  {name} " in shown
    assert "768" in shown  # 12 steps of 4 sequences of 16 tokens
    assert list(tmp_path.iterdir()) == []


def test_a_student_as_large_as_its_teacher_is_told(folder, tmp_path, caplog):
    flags = job_flags(folder, tmp_path / "out", **dict.fromkeys(SIZES))
    assert run_command(COMMAND, [*flags, "--dry_run"]) == 0
    assert "The student has the teacher's sizes" in caplog.text


def test_divergence_stops_and_keeps_the_last_good_checkpoint(folder, tmp_path, capsys):
    flags = job_flags(
        folder, tmp_path, extraction="rand", learning_rate=1e38, warmup_steps=6, checkpoint_every=1
    )
    assert run_command(COMMAND, flags) == 2
    error = capsys.readouterr().err
    assert "Lower --learning_rate" in error
    assert "Traceback" not in error
    assert not (tmp_path / "student").exists()
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    ("stop", "extra", "told"),
    [
        (Interrupted(15, "Step 5 is saved."), [], "Step 5 is saved. The same command continues."),
        (Interrupted(15), [], "Finished stages are kept. The same command continues."),
        (KeyboardInterrupt(), ["--overwrite"], "The same command with --nooverwrite continues"),
    ],
)
def test_an_interruption_says_how_to_go_on(
    folder, tmp_path, capsys, monkeypatch, stop, extra, told
):
    def interrupt(_):
        raise stop

    monkeypatch.setattr("etd_tf.jobs.distill.run_distillation", interrupt)
    status = run_command(COMMAND, [*job_flags(folder, tmp_path / "out"), *extra])
    assert status == (130 if isinstance(stop, KeyboardInterrupt) else 143)
    assert told in capsys.readouterr().err


def test_masked_lm_logits_are_distilled(folder, tmp_path):
    teacher = write_teacher(tmp_path / "teacher", mlm_head=True)
    out = tmp_path / "out"
    flags = job_flags(folder, out, teacher=teacher, loss="mlm", temperature=2, extraction="none")
    assert run_command(COMMAND, [*flags, "--student_loss_weight=0.5"]) == 0
    lines = list(read_metrics(out / "metrics.jsonl"))
    assert {"loss", "distillation_loss", "student_loss", "logits_loss"} <= lines[0].keys()
    held_out = _losses(out, "validation")
    assert held_out[-1] < held_out[0]
    assert load_checkpoint(out / "student").mlm_head is not None
    assert not (out / "plan.json").exists()


def test_losses_are_summed_by_their_weights(folder, tmp_path, capsys):
    out = tmp_path / "out"
    flags = job_flags(folder, out, loss="minilm,tinybert", extraction="rand", steps=4)
    assert run_command(COMMAND, [*flags, "--loss_weights=1,0.5", "--tinybert_layers=all"]) == 0
    for line in read_metrics(out / "metrics.jsonl"):
        ours = ("attention_relation_loss", "value_relation_loss")
        theirs = ("attention_loss", "hidden_loss", "embedding_loss")
        expected = sum(line[name] for name in ours) + 0.5 * sum(line[name] for name in theirs)
        assert line["loss"] == line["distillation_loss"] == pytest.approx(expected, rel=1e-5)
    report = json.loads((out / "report.json").read_text())
    assert report["loss"] == "minilm+tinybert@0.5"
    assert {"value_relation_loss", "hidden_loss"} <= {curve["name"] for curve in report["curves"]}
    assert run_command(COMMAND, [*flags, "--loss_weights=1,2,3"]) == 2
    told = capsys.readouterr().err
    assert "--loss_weights=1.0,2.0,3.0 are 3 numbers, but --loss=minilm,tinybert are 2" in told


@pytest.mark.parametrize("extraction", ["rand", "none"])
def test_a_kept_map_is_written_as_a_dense_layer(folder, tmp_path, capsys, extraction):
    out = tmp_path / "out"
    changes = {"loss": "minilm,embedding,states,similarity", "steps": 4, "dropout": 0.1}
    flags = [*job_flags(folder, out, extraction=extraction, **changes), "--keep_map"]
    assert run_command(COMMAND, flags) == 0, capsys.readouterr().err
    lines = list(read_metrics(out / "metrics.jsonl"))
    assert {"vector_loss", "states_loss", "similarity_loss"} <= lines[-1].keys()
    # the teacher says nothing of pooling
    student = load_checkpoint(out / "student")
    (layer,) = student.pooling.dense
    assert layer.kernel.shape == (9, 15)
    assert student.embed(["the cat sat", "a dog"]).shape == (2, 15)
    if extraction == "rand":
        selection = ExtractionPlan.load(out / "plan.json").selection_matrix()
        assert 0 < np.abs(layer.kernel - selection).max() < 0.3
    report = json.loads((out / "report.json").read_text())
    assert report["loss"] == "minilm+embedding+states+similarity"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
