"""Evaluations end to end: fine-tune, score again, probe, benchmark."""

import dataclasses
import json
import sys

import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.jobs.evaluate import run_evaluation
from etd_tf.jobs.evaluation_summary import describe_evaluation
from etd_tf.jobs.task_options import EvaluationOptions
from etd_tf.storage.holding import hold
from tests.evaluation.fixtures import write_squad, write_sst2, write_stsb
from tests.helpers import tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models and data."""
    folder = tmp_path_factory.mktemp("evaluate")
    for seed, name in enumerate(("teacher", "student")):
        save_checkpoint(tiny_checkpoint(seed, num_layers=1), folder / name)
    write_sst2(folder / "glue")
    write_stsb(folder / "glue")
    write_squad(folder / "squad")
    return folder


def test_finetune_then_score_the_result(folder, tmp_path):
    options = EvaluationOptions(
        models=(str(folder / "student"),),
        task="glue/sst2",
        task_options={"glue_dir": str(folder / "glue")},
        finetune=FinetuneOptions(learning_rates=(1e-2, 1e-3), seeds=(0, 1), epochs=1),
        output_dir=tmp_path / "out",
    )
    result = run_evaluation(options)
    text = describe_evaluation(result)
    assert "accuracy" in text
    assert "held-out part of train" in text
    assert f"learning rate {result.finetuned.learning_rate:g}, 2 seed(s)" in text
    again = run_evaluation(
        dataclasses.replace(
            options,
            models=(str(tmp_path / "out" / "model"),),
            finetune=None,
            output_dir=tmp_path / "scores",
        )
    )
    assert result.finetuned.baseline["dev"]["accuracy"].value == 0.5
    for out, scored in (("out", result), ("scores", again)):
        values = json.loads((tmp_path / out / "results.json").read_text())
        assert values["baseline"] == {"dev": {"accuracy": 0.5}}
        assert "baseline" in describe_evaluation(scored)
    # A model that is fine-tuned already is compared as the teacher: with itself, and trained anew.
    itself = dataclasses.replace(
        options,
        models=(str(tmp_path / "out" / "model"),),
        finetune=None,
        finetuned_teacher=str(tmp_path / "out" / "model"),
        output_dir=tmp_path / "itself",
    )
    assert "100.0%" in describe_evaluation(run_evaluation(itself))
    assert json.loads((tmp_path / "itself/results.json").read_text())["kept"] == {"dev": 1.0}
    anew = dataclasses.replace(
        options, finetuned_teacher=itself.finetuned_teacher, output_dir=tmp_path / "anew"
    )
    compared = run_evaluation(anew)
    values = json.loads((tmp_path / "anew/results.json").read_text())
    assert values["teacher"] == again.scores == compared.teacher
    mean = result.finetuned.summary["dev"]["accuracy"]["mean"]
    assert values["kept"] == {"dev": mean / again.scores["dev"]["accuracy"]}
    first = result.finetuned.summary["dev"]["accuracy"]["values"][0]
    assert again.scores == {"dev": {"accuracy": first}}
    assert f"{first:.4f}" in describe_evaluation(again)
    assert (tmp_path / "scores" / "predictions" / "SST-2.tsv").read_text() == (
        tmp_path / "out" / "predictions" / "SST-2.tsv"
    ).read_text()


@pytest.mark.parametrize("pool", ["pooled", "mean"])
def test_twins_are_trained_scored_and_predicted(folder, tmp_path, pool):
    options = EvaluationOptions(
        models=(str(folder / "student"),),
        task="glue/stsb",
        task_options={"glue_dir": str(folder / "glue"), "pairs": "twin", "pool": pool},
        finetune=FinetuneOptions(learning_rates=(1e-2,), epochs=1),
        output_dir=tmp_path / "out",
    )
    result = run_evaluation(options)
    settings = json.loads((tmp_path / "out/results.json").read_text())["settings"]
    assert settings["pairs"] == "twin"
    assert settings.get("pool", "pooled") == pool
    lines = (tmp_path / "out/predictions/STS-B.tsv").read_text().splitlines()
    assert len(lines) == 4
    # Nobody needs to say how the model reads: it knows.
    again = dataclasses.replace(
        options,
        models=(str(tmp_path / "out/model"),),
        task_options={"glue_dir": str(folder / "glue")},
        finetune=None,
        output_dir=tmp_path / "again",
    )
    assert run_evaluation(again).scores == result.finetuned.means()
    assert lines == (tmp_path / "again/predictions/STS-B.tsv").read_text().splitlines()
    joint = dataclasses.replace(
        options, task_options=again.task_options, output_dir=tmp_path / "joint"
    )
    run_evaluation(joint)
    assert "pairs" not in json.loads((tmp_path / "joint/results.json").read_text())["settings"]


def test_twins_need_two_texts(folder):
    with pytest.raises(InputError, match="pairs=twin is for two texts, and an example of glue/sst"):
        EvaluationOptions(
            models=("m",), task="glue/sst2", task_options={"glue_dir": "g", "pairs": "twin"}
        )


def test_the_model_that_is_evaluated_is_not_replaced(folder, tmp_path):
    options = EvaluationOptions(
        models=(str(tmp_path / "out" / "model"),),
        task="sts-probe",
        task_options={"glue_dir": str(folder / "glue")},
        output_dir=tmp_path / "out",
    )
    save_checkpoint(tiny_checkpoint(num_layers=1), tmp_path / "out" / "model")
    with pytest.raises(InputError, match="overwrite=True would delete model="):
        dataclasses.replace(options, overwrite=True)
    run_evaluation(options)
    assert load_checkpoint(tmp_path / "out" / "model").config.num_layers == 1


def test_probe_and_benchmark_compare_models(folder, tmp_path):
    options = EvaluationOptions(
        models=(str(folder / "teacher"), str(folder / "student")),
        task="sts-probe",
        task_options={"glue_dir": str(folder / "glue")},
        output_dir=tmp_path,
    )
    result = run_evaluation(options)
    assert list(result.zero_shot) == list(options.models)
    values = json.loads((tmp_path / "results.json").read_text())
    found = {model: scores["spearman"] for model, scores in result.zero_shot.items()}
    assert values["sts_probe"]["values"] == found
    assert values["sts_probe"]["scores"] == result.zero_shot
    text = describe_evaluation(result)
    assert all(f"{value:.4f}" in text for value in found.values())


def test_the_benchmark_fits_the_model_with_the_fewest_positions(folder, tmp_path):
    """A task that has been done must not be lost to the benchmark behind it."""
    save_checkpoint(tiny_checkpoint(num_layers=1, max_positions=11), tmp_path / "short")
    options = EvaluationOptions(
        models=(str(folder / "student"), str(tmp_path / "short")),
        task="sts-probe",
        task_options={"glue_dir": str(folder / "glue")},
        benchmark=True,
    )
    result = run_evaluation(options)
    assert {cost.sequence_length for cost in result.costs.values()} == {11}
    assert "11 tokens a sequence" in describe_evaluation(result)


def test_benchmark_alone(tmp_path):
    save_checkpoint(tiny_checkpoint(num_layers=1, max_positions=128), tmp_path / "m")
    options = EvaluationOptions(
        models=(str(tmp_path / "m"),), benchmark=True, output_dir=tmp_path / "out"
    )
    result = run_evaluation(options)
    text = describe_evaluation(result)
    assert "ms, batch 32" in text
    values = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert [x["batch_size"] for x in values[str(tmp_path / "m")]["latency"]] == [1, 32]
    with pytest.raises(InputError, match=r"benchmark.json exists already"):
        run_evaluation(options)


def test_a_model_that_has_learnt_nothing_is_named(folder):
    options = EvaluationOptions(
        models=(str(folder / "student"),),
        task="glue/sst2",
        task_options={"glue_dir": str(folder / "glue")},
        finetune=FinetuneOptions(learning_rates=(1e-9,), seeds=(0,), epochs=1),
    )
    text = describe_evaluation(run_evaluation(options))
    assert "always answering the most frequent label gives 0.5000" in text


def test_an_output_directory_has_one_owner(tmp_path):
    """Found out before the model is looked for."""
    (tmp_path / "file").touch()
    options = EvaluationOptions(models=("none",), benchmark=True)
    for name, message in (("file", "is a file"), ("file/x", "cannot be written")):
        with pytest.raises(InputError, match=message):
            run_evaluation(dataclasses.replace(options, output_dir=tmp_path / name))
    with (
        hold(tmp_path / "out"),
        pytest.raises(InputError, match="Another run is working"),
    ):
        run_evaluation(dataclasses.replace(options, output_dir=tmp_path / "out"))
    with pytest.raises(InputError, match="none"):
        run_evaluation(dataclasses.replace(options, output_dir=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_heads_and_tasks_must_fit(folder, tmp_path):
    options = EvaluationOptions(
        models=(str(folder / "student"),),
        task="squad/v1.1",
        task_options={"squad_dir": str(folder / "squad"), "max_length": 16},
        finetune=None,
    )
    with pytest.raises(InputError, match="is not fine-tuned"):
        run_evaluation(options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "models=: expected at least one value, none twice"),
        ({"models": ("a", "a")}, "none twice"),
        ({"task": ""}, "Pass task=NAME, benchmark=True or both"),
        ({"task_options": {}}, r"pass glue_dir=DIR"),
        ({"task": "squad/v1.1", "task_options": {}}, r"pass squad_dir=DIR"),
        ({"task": "squad/v1.1"}, r"has no option glue_dir. Its options: max_length, squad_dir"),
        ({"task": "glue/imdb"}, "choose from sts-probe, fidelity"),
        ({"finetune": FinetuneOptions(saved_model=True)}, "has no effect without output_dir"),
        ({"models": ("a", "b")}, "takes one model, received a, b"),
    ],
)
def test_options_are_checked(changes, message):
    fields = {"models": ("a",), "task": "glue/sst2", "task_options": {"glue_dir": "glue"}} | changes
    with pytest.raises(InputError, match=message):
        EvaluationOptions(**fields)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
