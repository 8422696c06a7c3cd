"""Runs with a sentence encoder as teacher: fidelity in the log, the report and as a limit."""

import json
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND
from etd_tf.distillation import Distiller
from etd_tf.errors import InputError
from etd_tf.evaluation.fidelity import measure_fidelity
from etd_tf.jobs.held_out_fidelity import HeldOutFidelity, held_out_fidelity
from etd_tf.losses import LOSSES
from etd_tf.modeling.pooling import Pooling
from etd_tf.text.batches import load_examples
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import prepare_records
from etd_tf.text.record_directories import open_records
from etd_tf.training.metrics_log import read_metrics
from tests.helpers import tiny_checkpoint
from tests.jobs.tiny_job import job_flags, write_text

NAMES = {"fidelity_neighbours", "fidelity_spearman"}


def pooled(seed=0, **sizes):
    return tiny_checkpoint(seed, **sizes).replace(pooling=Pooling(("mean",), normalize=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    save_checkpoint(pooled(), folder / "teacher")
    save_checkpoint(tiny_checkpoint(), folder / "plain")
    write_text(folder / "text.txt")
    write_text(folder / "held_out.txt", documents=30)
    return folder


def flags_of(folder, out, **changes):
    held_out = folder / "held_out.txt"
    changes = {"validation_corpus": held_out, "held_out_sequences": 40, **changes}
    return job_flags(folder, out, **changes)


@pytest.fixture(scope="module")
def finished(folder):
    assert run_command(COMMAND, flags_of(folder, folder / "out", dropout=0.1)) == 0
    return folder / "out"


def cached(folder):
    (manifest,) = (folder / "cache").glob("**/manifest.json")
    return open_records(manifest.parent)


def validation(out):
    return [line for line in read_metrics(out / "metrics.jsonl") if line["split"] == "validation"]


def test_every_evaluation_after_the_start_has_it(finished):
    first, *lines = validation(finished)
    assert [line["step"] for line in lines] == [6, 12]
    assert first["step"] == 0
    assert not NAMES & {*first}  # training begins sooner
    for line in lines:
        assert {*line} >= NAMES
        assert "fidelity_cosine" not in line  # the student is narrower
        assert 0 < line["fidelity_neighbours"] <= 1
    train = [line for line in read_metrics(finished / "metrics.jsonl") if line["split"] == "train"]
    assert not any(NAMES & {*line} for line in train)


def test_the_report_has_student_and_floor(finished):
    report = json.loads((finished / "report.json").read_text())
    facts, last = report["fidelity"], validation(finished)[-1]
    assert facts["student"]["neighbours"] == pytest.approx(last["fidelity_neighbours"], abs=1e-6)
    assert facts["student"]["spearman"] == pytest.approx(last["fidelity_spearman"], abs=1e-3)
    assert facts["student"]["num_texts"] == facts["floor"]["num_texts"] == 40
    assert report["headline"]["fidelity_neighbours"] == facts["student"]["neighbours"]
    assert facts["floor_seconds"] > 0
    page = (finished / "report.html").read_text()
    assert "Fidelity to the teacher" in page
    assert "Share of the teacher" in page
    assert "Fidelity neighbours" not in page  # not among the losses, too


def test_numbers_are_those_of_the_held_out_sequences(folder, finished):
    teacher, student = load_checkpoint(folder / "teacher"), load_checkpoint(finished / "student")
    records = cached(folder)
    batch = load_examples(records, 40, seed=0, split="validation")

    def vectors(model):
        states = model.encoder(
            {key: batch[key] for key in ("token_ids", "segment_ids", "padding_mask")}
        )["sequence_output"]
        return np.asarray(model.pooling(states, batch["padding_mask"]))

    expected = measure_fidelity(vectors(teacher), vectors(student))
    facts = json.loads((finished / "report.json").read_text())["fidelity"]
    assert facts["student"]["neighbours"] == pytest.approx(expected.neighbours, abs=0.01)
    assert facts["student"]["spearman"] == pytest.approx(expected.spearman, abs=1e-3)


def test_measuring_changes_no_student(folder, finished, tmp_path):
    flags = flags_of(folder, tmp_path / "out", teacher=folder / "plain", dropout=0.1)
    assert run_command(COMMAND, flags) == 0
    plain = (tmp_path / "out" / "student" / "model.safetensors").read_bytes()
    assert plain == (finished / "student" / "model.safetensors").read_bytes()
    assert not any(NAMES & {*line} for line in validation(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["fidelity"] is None
    assert "Fidelity" not in (tmp_path / "out" / "report.html").read_text()


def test_a_limit_fails_the_run_and_keeps_it(folder, tmp_path, capsys):
    out = tmp_path / "out"
    flags = flags_of(folder, out, steps=2, warmup_steps=0)
    assert run_command(COMMAND, [*flags, "--min_fidelity=1"]) == 1
    printed = capsys.readouterr()
    assert "static floor" in printed.out
    assert "of the teacher's neighbours, rank correlation" in printed.out
    assert "40 held-out sequences, less than --min_fidelity=1" in printed.err
    assert f"It is kept in {out}" in printed.err
    assert load_checkpoint(out / "student").pooling is not None
    assert (out / "report.html").is_file()
    other = flags_of(folder, tmp_path / "other", steps=2, warmup_steps=0)
    assert run_command(COMMAND, [*other, "--min_fidelity=0.01"]) == 0


def test_a_limit_that_cannot_be_measured_is_refused_before_the_work(folder, tmp_path, capsys):
    flags = flags_of(folder, tmp_path / "out", teacher=folder / "plain", min_fidelity=0.5)
    assert run_command(COMMAND, flags) == 2
    assert "there is no fidelity to measure. Leave --min_fidelity out" in capsys.readouterr().err
    assert run_command(COMMAND, [*flags_of(folder, tmp_path / "out"), "--min_fidelity=1.5"]) == 2
    few = flags_of(folder, tmp_path / "out", min_fidelity=0.5, held_out_sequences=11)
    assert run_command(COMMAND, few) == 2
    told = capsys.readouterr().err
    assert "--held_out_sequences=11: fidelity needs 12 at least" in told
    assert not (tmp_path / "out" / "plan.json").exists()


def test_too_little_held_out_text_is_only_told(folder, tmp_path, caplog):
    teacher = pooled()
    text, options = [str(folder / "text.txt")], RecordOptions(sequence_length=16)
    records = prepare_records(text, teacher.tokenizer, tmp_path / "records", options=options)
    assert held_out_fidelity(teacher, records, 11) is None
    assert "Fidelity to the teacher is not measured" in caplog.text
    assert held_out_fidelity(tiny_checkpoint(), records, 11) is None
    with pytest.raises(InputError, match="fidelity needs 12 at least"):
        HeldOutFidelity(teacher, records, 11)


def test_a_student_that_has_diverged_has_no_numbers(folder, finished):
    assert finished.is_dir()
    fidelity = HeldOutFidelity(load_checkpoint(folder / "teacher"), cached(folder), 40)
    student = pooled(3)
    distiller = Distiller(pooled(), student)
    assert {*fidelity.log_values(distiller)} == {*NAMES, "fidelity_cosine"}
    variable = student.encoder.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.nan))
    assert fidelity.log_values(distiller) == {}
    same = Distiller(pooled(), pooled())
    assert fidelity.log_values(same)["fidelity_neighbours"] == 1.0


def test_the_map_that_is_trained_counts(folder, finished):
    assert finished.is_dir()
    teacher = load_checkpoint(folder / "teacher")
    fidelity = HeldOutFidelity(teacher, cached(folder), 40)
    loss = LOSSES["embedding"](keep_map=True)
    narrow = pooled(3, hidden_size=9, intermediate_size=7)
    distiller = Distiller(teacher, narrow, loss)
    values = fidelity.log_values(distiller)
    assert "fidelity_cosine" in values  # the map leads into the teacher's space
    kept = narrow.replace(pooling=distiller.student_pooling)
    facts = fidelity.facts(kept, narrow)
    assert facts.student.neighbours == pytest.approx(values["fidelity_neighbours"])
    assert facts.student.cosine == pytest.approx(values["fidelity_cosine"], abs=1e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
