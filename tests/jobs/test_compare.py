"""Tests of a whole comparison over a tiny teacher: files, resuming, adding, refusing."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND as DISTILL
from etd_tf.errors import DivergenceError, InputError, Interrupted
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs import compare, compare_arm
from etd_tf.jobs.compare import forecast_comparison, run_comparison
from etd_tf.jobs.compare_study import check_comparison
from etd_tf.jobs.compare_types import CompareOptions, DownstreamOptions
from etd_tf.jobs.distill import run_distillation
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import CorpusOptions, StudentSize
from etd_tf.jobs.summary import describe_comparison, describe_forecast
from etd_tf.modeling.pooling import Pooling
from etd_tf.training import TrainerOptions
from tests.evaluation.fixtures import write_squad, write_sst2, write_stsb
from tests.helpers import tiny_checkpoint
from tests.jobs.tiny_job import write_teacher, write_text

STEPS, BATCH, LENGTH, SCORED = 8, 4, 16, 16
SIZE = "2x9x3x7"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_teacher(folder / "teacher")
    write_text(folder / "text.txt", 80)
    write_stsb(folder / "glue")
    return folder


def options_for(inputs: Path, out: Path, **changes) -> CompareOptions:
    base = DistillOptions(
        teacher=str(inputs / "teacher"),
        output_dir=out,
        student=StudentSize(),
        extraction=ExtractionOptions(importance_examples=SCORED),
        corpus=CorpusOptions(
            (str(inputs / "text.txt"),), sequence_length=LENGTH, cache_dir=inputs / "cache"
        ),
        trainer=TrainerOptions(steps=STEPS, batch_size=BATCH, learning_rate=0.01, log_every=4),
        settings=changes.pop("settings", {"steps": str(STEPS), "arms": "none,impt"}),
    )
    fields = {
        "base": base,
        "losses": ("minilm",),
        "students": (StudentSize.parse(SIZE),),
        "arms": ("none", "impt"),
        "evaluate_at": (2, 8),
        "held_out_sequences": 8,
        "snapshots": (0, 50, 100),
        **changes,
    }
    return CompareOptions(**fields)


@pytest.fixture(scope="module")
def study(inputs, tmp_path_factory):
    """A finished comparison and its options."""
    downstream = DownstreamOptions(("sts-probe",), {"glue_dir": str(inputs / "glue")})
    options = options_for(inputs, tmp_path_factory.mktemp("study") / "out", downstream=downstream)
    return options, run_comparison(options)


def forward(layers, hidden, inner):
    """FLOPs of an encoder on one sequence."""
    return layers * (2 * LENGTH * (4 * hidden**2 + 2 * hidden * inner) + 4 * LENGTH**2 * hidden)


def test_the_json_holds_every_arm(study):
    options, _ = study
    values = json.loads((options.base.output_dir / "compare.json").read_text())
    assert values["complete"] is True
    none, impt = values["cells"]
    for cell, arm in ((none, "none"), (impt, "impt")):
        assert (cell["loss"], cell["student"], cell["arm"]) == ("minilm", SIZE, arm)
        assert (cell["seeds"], cell["steps"]) == ([0], STEPS)
        assert [point["step"] for point in cell["curve"]] == [0, 2, 4, 8]
        assert cell["final_loss"] == cell["curve"][-1]["mean"] > 0
        points = cell["downstream"]["sts-probe"]["points"]
        assert [point["step"] for point in points] == [0, 4, 8]
        assert all(-1 <= point["mean"] <= 1 for point in points)
    assert none["compute_saved"] is None
    assert "sts-probe" in values["teacher_scores"]
    assert values["machine"]["cores"] >= 1
    assert values["data"]["held-out sequences"] == 8


def test_cost_counts_teacher_student_and_scoring(study):
    none, impt = (run for run in study[1].runs)
    step = BATCH * (forward(3, 15, 22) + 3 * forward(2, 9, 7))
    scoring = 3 * SCORED * forward(3, 15, 22)
    assert none.flops(STEPS) == STEPS * step
    assert impt.flops(STEPS) == STEPS * step + scoring
    assert impt.flops(0) == scoring


def test_kept_students_are_those_of_their_steps(study):
    options, comparison = study
    folder = options.base.output_dir / f"minilm-{SIZE}"
    names = {0: "students/step-00000000", 4: "students/step-00000004", 8: "student"}
    weights = {
        (arm, step): load_checkpoint(folder / f"{arm}-seed0" / names[step])
        for arm in ("none", "impt")
        for step in (0, 4, 8)
    }
    assert sorted(path.name for path in folder.glob("none-seed0/students/*")) == [
        "step-00000000",
        "step-00000004",
    ]
    assert len({student.fingerprint() for student in weights.values()}) == 6
    assert weights["impt", 8].tokenizer is not None
    assert not list(folder.glob("*/checkpoints"))  # no longer needed
    assert comparison.labels == {"none": "random initialisation", "impt": "ETD-Impt"}


def test_an_arm_is_a_run_of_etd_distill(study, inputs, tmp_path):
    options, comparison = study
    arm = options.base.output_dir / f"minilm-{SIZE}" / "impt-seed0"
    made = {"flags.txt", "identity.json", "report.json", "report.html", "metrics.jsonl", "student"}
    assert made <= {path.name for path in arm.iterdir()}
    report = json.loads((arm / "report.json").read_text())
    assert report["cost"]["total_flops"] == comparison.runs[1].flops(STEPS)
    assert report["headline"]["held_out_loss_after"] == comparison.runs[1].final_loss
    assert len(report["latency"]) == 2
    assert load_checkpoint(str(arm)).config.num_layers == 2
    flags = [f"--flagfile={arm / 'flags.txt'}", f"--output_dir={tmp_path / 'again'}"]
    assert run_command(DISTILL, flags) == 0
    again = load_checkpoint(str(tmp_path / "again")).fingerprint()
    assert again == load_checkpoint(str(arm)).fingerprint()
    with pytest.raises(InputError, match="holds a finished run"):
        run_distillation(options.distill_options(next(options.runs()), options.base.output_dir))


def test_arms_of_earlier_versions_are_shown_or_refused_by_name(study, inputs, tmp_path):
    options, comparison = study
    out = tmp_path / "out"
    shutil.copytree(options.base.output_dir, out)
    old = dataclasses.replace(options, base=dataclasses.replace(options.base, output_dir=out))
    for run in comparison.runs:
        folder = out / f"minilm-{SIZE}" / f"{run.arm}-seed0"
        values = {**dataclasses.asdict(run), "downstream": None}
        (folder / "arm.json").write_text(json.dumps(values))
        (folder / "student").rename(folder / "students" / "step-00000008")
        for name in ("report.json", "report.html", "flags.txt", "identity.json"):
            (folder / name).unlink()
    assert run_comparison(old).runs == comparison.runs
    (folder / "arm.json").unlink()
    for work in (run_comparison, forecast_comparison):
        with pytest.raises(InputError, match=r"impt-seed0 was begun by an earlier version.*remove"):
            work(old)


def test_the_summary_names_arms_and_report(study):
    options, comparison = study
    text = describe_comparison(comparison, options.base.output_dir)
    assert "compare.html" in text
    assert f"minilm  {SIZE}  impt" in text


def test_arms_of_a_sentence_encoder_show_what_is_left_of_its_vectors(inputs, tmp_path):
    save_checkpoint(tiny_checkpoint().replace(pooling=Pooling()), tmp_path / "teacher")
    held_out = write_text(tmp_path / "held_out.txt", 20)
    options = options_for(inputs, tmp_path / "out", held_out_sequences=16, snapshots=(100,))
    corpus = dataclasses.replace(options.base.corpus, validation_corpus=(str(held_out),))
    base = dataclasses.replace(options.base, teacher=str(tmp_path / "teacher"), corpus=corpus)
    comparison = run_comparison(dataclasses.replace(options, base=base))
    text = describe_comparison(comparison, tmp_path / "out")
    assert "neighbours found" in text
    for arm in ("none", "impt"):
        folder = tmp_path / "out" / f"minilm-{SIZE}" / f"{arm}-seed0"
        found = json.loads((folder / "report.json").read_text())["fidelity"]["student"]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        held = [line for line in lines if line["split"] == "validation"]
        assert all("fidelity_neighbours" in line for line in held)
        assert held[-1]["fidelity_neighbours"] == pytest.approx(found["neighbours"], abs=1e-6)
        (run,) = (run for run in comparison.runs if run.arm == arm)
        assert run.neighbours == found["neighbours"]
        assert f"{run.neighbours:.3f}" in text
    assert "Neighbours found" in (tmp_path / "out" / "compare.html").read_text()


def test_finished_runs_are_not_made_again(study, monkeypatch):
    options, comparison = study

    def refuse(*_):
        raise AssertionError("a finished run was started")

    monkeypatch.setattr(compare, "run_arms", refuse)
    monkeypatch.setattr("etd_tf.jobs.compare_downstream._measure", refuse)
    assert run_comparison(options).runs == comparison.runs
    forecast = forecast_comparison(options)
    assert (forecast.runs, forecast.finished, forecast.flops) == (2, 2, 0)


def test_arms_can_be_added_and_share_scores(study, monkeypatch):
    options, comparison = study
    made = []

    def count(study, specs):
        made.extend(spec.arm for spec in specs)
        return compare_arm.run_arms(study, specs)

    def refuse(*_, **__):
        raise AssertionError("the teacher was scored again")

    monkeypatch.setattr(compare, "run_arms", count)
    monkeypatch.setattr("etd_tf.extraction.importance.score_units", refuse)
    more = dataclasses.replace(options, arms=("none", "impt", "impt-ffn"))
    assert forecast_comparison(more).finished == 2
    runs = run_comparison(more).runs
    assert made == ["impt-ffn"]
    assert runs[:2] == comparison.runs
    assert runs[2].scoring_flops == runs[1].scoring_flops
    assert runs[2].curve[0] != runs[1].curve[0]


def test_tasks_can_be_added_to_finished_runs(inputs, study):
    options, comparison = study
    write_sst2(inputs / "glue")
    finetuning = FinetuneOptions(epochs=1, batch_size=16)
    downstream = DownstreamOptions(("glue/sst2",), {"glue_dir": str(inputs / "glue")}, finetuning)
    fewer = dataclasses.replace(options, arms=("none",), downstream=downstream)
    (run,) = run_comparison(fewer).runs
    assert run.curve == comparison.runs[0].curve
    ((step, accuracy),) = run.downstream["glue/sst2"].points
    assert step == STEPS
    assert run.downstream["glue/sst2"].metric == "accuracy"
    assert 16 * accuracy == pytest.approx(round(16 * accuracy))  # of 16 examples


def test_other_ways_to_fine_tune_score_again(inputs, study, monkeypatch):
    options, _ = study
    write_squad(inputs / "squad")
    made = []

    def measure(study, task, model):
        made.append(
            (task, study.options.downstream.finetuning(task).epochs, Path(model.source).name)
        )
        return len(made) / 10

    monkeypatch.setattr("etd_tf.jobs.compare_downstream._measure", measure)

    def score(**changes):
        downstream = DownstreamOptions(
            ("squad/v1.1",),
            {"squad_dir": str(inputs / "squad")},
            FinetuneOptions(seeds=(3,)),
            **changes,
        )
        settings = {**options.base.settings, "finetune_seeds": "3", **changes}
        base = dataclasses.replace(options.base, settings=settings)
        (run,) = run_comparison(
            dataclasses.replace(options, base=base, arms=("none",), downstream=downstream)
        ).runs
        ((_, found),) = run.downstream["squad/v1.1"].points
        return found

    assert [score(), score(), score(squad_epochs=1), score(squad_epochs=1)] == [0.1, 0.1, 0.2, 0.2]
    assert made == [("squad/v1.1", epochs, "student") for epochs in (2, 1)]


def test_students_are_fine_tuned_on_squad(inputs, study):
    options, _ = study
    write_squad(inputs / "squad")
    downstream = DownstreamOptions(
        ("squad/v1.1",), {"squad_dir": str(inputs / "squad")}, squad_epochs=1
    )
    fewer = dataclasses.replace(options, arms=("none",), downstream=downstream)
    (run,) = run_comparison(fewer).runs
    ((step, score),) = run.downstream["squad/v1.1"].points
    assert (step, run.downstream["squad/v1.1"].metric) == (STEPS, "f1")
    assert 0.0 <= score <= 100.0  # as the official script counts


def test_an_interrupted_run_goes_on_exactly(inputs, study, tmp_path, monkeypatch):
    options = options_for(inputs, tmp_path / "out", arms=("impt",))

    keep = compare_arm._keep

    def interrupt(*args):
        found = keep(*args)
        if args[-1] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(compare_arm, "_keep", interrupt)
    with pytest.raises(Interrupted, match="Step 4 of 8"):
        run_comparison(options)
    run_dir = tmp_path / "out" / f"minilm-{SIZE}" / "impt-seed0"
    assert (run_dir / "checkpoints").is_dir()
    assert not (run_dir / "report.json").exists()
    monkeypatch.setattr(compare_arm, "_keep", keep)
    (run,) = run_comparison(options).runs
    assert run.curve == study[1].runs[1].curve
    assert run_comparison(options).to_dict()["cells"][0]["compute_saved"] is None  # no baseline


def test_a_run_that_diverges_does_not_stop_the_others(inputs, tmp_path, monkeypatch):
    def diverge(study, specs):
        return [DivergenceError("The loss became nan.") for _ in specs]

    monkeypatch.setattr(compare, "run_arms", diverge)
    with pytest.raises(DivergenceError, match="2 of 2 runs diverged"):
        run_comparison(options_for(inputs, tmp_path / "out"))
    values = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert len(values["failures"]) == 2
    assert values["complete"] is False


def test_compensation_is_kept_over_sittings(inputs, tmp_path, monkeypatch):
    options = options_for(inputs, tmp_path / "out", arms=("impt-compensate",), snapshots=(100,))

    def stop(*_):
        raise Interrupted(signal.SIGTERM)

    keep = compare_arm._keep
    monkeypatch.setattr(compare_arm, "_keep", stop)
    with pytest.raises(Interrupted):
        run_comparison(options)
    initial = tmp_path / "out" / f"minilm-{SIZE}" / "impt-compensate-seed0" / "compensated"
    assert (initial / "model.safetensors").is_file()
    monkeypatch.setattr(compare_arm, "_keep", keep)
    monkeypatch.setattr("etd_tf.extraction.starts.compensation.extract_compensated", stop)
    (run,) = run_comparison(options).runs
    assert run.scoring_flops > 3 * SCORED * forward(3, 15, 22)
    assert not initial.exists()


def test_other_settings_are_refused(inputs, study):
    options, _ = study
    base = dataclasses.replace(options.base, settings={"steps": "9", "arms": "impt"})
    with pytest.raises(InputError, match="steps was '8' and is now '9'"):
        run_comparison(dataclasses.replace(options, base=base))


def change_text(folder):
    with open(folder / "text.txt", "a", encoding="utf-8") as file:
        file.write("\n\nThe cat sat on the mat and the dog ran.\n")


def change_teacher(folder):
    save_checkpoint(tiny_checkpoint(seed=1), folder / "teacher", overwrite=True)


@pytest.mark.parametrize(("change", "what"), [(change_text, "text"), (change_teacher, "teacher")])
def test_other_files_of_the_same_names_are_refused(inputs, study, tmp_path, change, what):
    copies, out = tmp_path / "inputs", tmp_path / "out"
    copies.mkdir()
    shutil.copytree(inputs / "teacher", copies / "teacher")
    shutil.copy(inputs / "text.txt", copies)
    shutil.copytree(study[0].base.output_dir, out)
    options = options_for(copies, out)
    assert run_comparison(options).runs == tuple(
        dataclasses.replace(run, downstream={}) for run in study[1].runs
    )
    before = (out / "study.json").read_bytes()
    change(copies)
    with pytest.raises(InputError, match=f"begun with another {what} than the same settings"):
        run_comparison(options)
    assert (out / "study.json").read_bytes() == before


def test_other_task_data_scores_again(inputs, study, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(study[0].base.output_dir, out)
    shutil.copytree(inputs / "glue", tmp_path / "glue")
    options = options_for(
        inputs,
        out,
        downstream=DownstreamOptions(("sts-probe",), {"glue_dir": str(tmp_path / "glue")}),
    )
    monkeypatch.setattr("etd_tf.jobs.compare_downstream._measure", lambda *_: 0.125)
    same = run_comparison(options)  # the same data in another place
    assert (same.runs, same.teacher_scores) == (study[1].runs, study[1].teacher_scores)
    dev = tmp_path / "glue" / "STS-B" / "dev.tsv"
    dev.write_text("".join(dev.read_text().splitlines(keepends=True)[:-1]))
    other = run_comparison(options)
    assert other.teacher_scores == {"sts-probe": 0.125}
    points = [score for run in other.runs for _, score in run.downstream["sts-probe"].points]
    assert points == [0.125] * 6


def test_other_directories_are_refused(inputs, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="no run of etd_compare made"):
        run_comparison(options_for(inputs, tmp_path))


def test_depth_needs_the_teachers_width(inputs, tmp_path):
    options = options_for(inputs, tmp_path / "out", arms=("none", "depth"))
    with pytest.raises(InputError, match=r"depth copies whole layers.* Make it 2x15x3x22"):
        run_comparison(options)
    assert not (tmp_path / "out").exists()  # so that other settings can be tried there
    students = (StudentSize.parse("2x15x3x22"),)
    _, configs = check_comparison(dataclasses.replace(options, students=students))
    assert {config.hidden_size for config in configs.values()} == {15}


def test_missing_task_data_is_found_before_any_work(inputs, tmp_path):
    downstream = DownstreamOptions(("glue/cola",), {"glue_dir": str(tmp_path)})
    options = options_for(inputs, tmp_path / "out", downstream=downstream)
    with pytest.raises(InputError, match="does not exist"):
        run_comparison(options)
    assert not (tmp_path / "out").exists()


def test_the_forecast_names_runs_and_cost(inputs, tmp_path):
    forecast = forecast_comparison(options_for(inputs, tmp_path / "out"))
    step = BATCH * (forward(3, 15, 22) + 3 * forward(2, 9, 7))
    assert forecast.flops == 2 * STEPS * step + 3 * SCORED * forward(3, 15, 22)
    text = describe_forecast(forecast)
    assert "runs           2\n" in text
    assert "expected time" in text
    assert not (tmp_path / "out").exists()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
