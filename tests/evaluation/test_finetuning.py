"""Grids end to end on tiny data: choice on train, resume, divergence, outputs."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from etd_tf.errors import DivergenceError, InputError
from etd_tf.evaluation import finetuning
from etd_tf.evaluation.finetuned import load_finetuned
from etd_tf.evaluation.finetuning import finetune, summarize
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.evaluation.run_record import FINAL, SELECTION
from etd_tf.evaluation.training import FineTuner
from etd_tf.tasks.glue import GLUE_TASKS
from etd_tf.tasks.squad import SquadV1
from etd_tf.tasks.text_experiment import TextExperiment
from tests.evaluation.fixtures import write_squad, write_sst2
from tests.helpers import tiny_checkpoint

OPTIONS = FinetuneOptions(learning_rates=(1e-2,), epochs=6, batch_size=8)


def sst2(source, checkpoint):
    options = {"glue_dir": str(source), "max_length": 16}
    return GLUE_TASKS["sst2"].configured(options).experiment(checkpoint)


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(num_layers=1, hidden_dropout=0.0, attention_dropout=0.0)


@pytest.fixture(scope="module")
def experiment(checkpoint, tmp_path_factory):
    source = write_sst2(tmp_path_factory.mktemp("glue"))
    return sst2(source, checkpoint)


def test_finetuning_learns_and_writes_everything(checkpoint, experiment, tmp_path):
    result = finetune(checkpoint, experiment, OPTIONS, output_dir=tmp_path / "out")
    assert result.summary["dev"]["accuracy"]["mean"] >= 0.9
    assert result.learning_rate == 1e-2
    assert [cell.phase for cell in result.cells] == [FINAL]
    values = json.loads((tmp_path / "out" / "results.json").read_text())
    assert values["finished"] is True
    assert values["summary"]["dev"]["accuracy"] == result.summary["dev"]["accuracy"]
    loaded = load_finetuned(tmp_path / "out" / "model")
    assert loaded.label_names == ("negative", "positive")
    assert experiment.evaluate(loaded.model)["dev"] == result.cells[0].scores["dev"]
    lines = (tmp_path / "out" / "predictions" / "SST-2.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines[1:]] == ["10", "11", "12", "13", "14"]
    with pytest.raises(InputError, match="finished run"):
        finetune(checkpoint, experiment, OPTIONS, output_dir=tmp_path / "out")


def test_the_rate_is_chosen_on_held_out_training_rows(checkpoint, experiment, monkeypatch):
    """The dev set must not be looked at before the choice is made."""
    calls = []
    original = TextExperiment.evaluate

    def evaluate(self, model):
        calls.append("dev")
        return original(self, model)

    def evaluate_rows(self, model, rows):
        calls.append("held out")
        assert len(rows) == 5  # a tenth of 48
        return {"accuracy": float(len(calls) in (3, 4))}  # the second rate wins

    monkeypatch.setattr(TextExperiment, "evaluate", evaluate)
    monkeypatch.setattr(TextExperiment, "evaluate_training_rows", evaluate_rows)
    options = dataclasses.replace(
        OPTIONS, learning_rates=(1e-3, 2e-3, 3e-3), seeds=(0, 1), epochs=1
    )
    result = finetune(checkpoint, experiment, options)
    assert calls == ["held out"] * 6 + ["dev"] * 2
    assert result.learning_rate == 2e-3
    assert options.num_trainings == len(result.cells) == 8
    finals = [cell for cell in result.cells if cell.phase == FINAL]
    assert [(cell.learning_rate, cell.seed) for cell in finals] == [(2e-3, 0), (2e-3, 1)]
    assert result.summary["dev"]["accuracy"]["std"] is not None


def test_held_out_rows_are_apart_and_the_same_every_time(experiment):
    train, held_out = experiment.held_out_split()
    assert len(np.intersect1d(train, held_out)) == 0
    assert len(train) + len(held_out) == 48
    np.testing.assert_array_equal(held_out, experiment.held_out_split()[1])


def test_an_interrupted_grid_continues(checkpoint, experiment, tmp_path, monkeypatch):
    options = dataclasses.replace(OPTIONS, learning_rates=(1e-3, 1e-2), epochs=1)
    whole = finetune(checkpoint, experiment, options, output_dir=tmp_path / "whole")
    original, trained = FineTuner.fit, []

    def fit(self, data, schedule, **arguments):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append((schedule.learning_rate, schedule.seed))
        return original(self, data, schedule, **arguments)

    monkeypatch.setattr(FineTuner, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        finetune(checkpoint, experiment, options, output_dir=tmp_path / "cut")
    monkeypatch.setattr(FineTuner, "fit", original)
    assert trained == [(1e-3, 0), (1e-2, 0)]
    resumed = finetune(checkpoint, experiment, options, output_dir=tmp_path / "cut")

    def content(result):
        return [dataclasses.replace(cell, seconds=0.0) for cell in result.cells]

    assert content(resumed) == content(whole)
    assert resumed.summary == whole.summary


def test_diverging_rates_lose_and_are_recorded(checkpoint, experiment, monkeypatch):
    original = FineTuner.fit

    def fit(self, data, schedule, **arguments):
        if schedule.learning_rate > 0.1:
            raise DivergenceError("too high")
        return original(self, data, schedule, **arguments)

    monkeypatch.setattr(FineTuner, "fit", fit)
    options = dataclasses.replace(OPTIONS, learning_rates=(1.0, 1e-3), epochs=1)
    result = finetune(checkpoint, experiment, options)
    assert result.learning_rate == 1e-3
    diverged = result.cells[0]
    assert (diverged.phase, diverged.training_loss, diverged.scores) == (SELECTION, None, {})
    options = dataclasses.replace(OPTIONS, learning_rates=(1.0, 2.0), epochs=1)
    with pytest.raises(DivergenceError, match=r"of 1, 2 diverged. Pass lower ones"):
        finetune(checkpoint, experiment, options)


def test_other_models_do_not_continue_a_run(checkpoint, experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(
        finetuning.Trainings, "final", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    options = dataclasses.replace(OPTIONS, learning_rates=(1e-3, 2e-3), epochs=1)
    with pytest.raises(KeyboardInterrupt):
        finetune(checkpoint, experiment, options, output_dir=tmp_path)
    other = tiny_checkpoint(1, num_layers=1)
    with pytest.raises(InputError, match="other settings: fingerprint was"):
        finetune(other, experiment, options, output_dir=tmp_path)


def test_other_data_of_the_same_name_does_not_continue_a_run(checkpoint, tmp_path, monkeypatch):
    def fit(*_, **__):
        raise KeyboardInterrupt

    source = write_sst2(tmp_path / "glue")
    options = dataclasses.replace(OPTIONS, learning_rates=(1e-3, 1e-2), epochs=1)

    def run():
        experiment = sst2(source, checkpoint)
        finetune(checkpoint, experiment, options, output_dir=tmp_path / "out")

    original = TextExperiment.evaluate
    monkeypatch.setattr(TextExperiment, "evaluate", fit)  # both selections are done
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(TextExperiment, "evaluate", original)
    write_sst2(source, seed=1)
    with pytest.raises(InputError, match=r"other settings: dev was .*train was"):
        run()


@pytest.mark.parametrize("task", ["classifier", "answers"])
def test_low_precision_is_exported_as_float32(checkpoint, tmp_path, task):
    if task == "classifier":
        source = write_sst2(tmp_path / "glue")
        experiment = sst2(source, checkpoint)
    else:
        source = str(write_squad(tmp_path / "squad"))
        experiment = SquadV1(squad_dir=source, max_length=20, doc_stride=4).experiment(checkpoint)
    options = FinetuneOptions(epochs=1, precision="mixed_bfloat16", saved_model=True)
    finetune(checkpoint, experiment, options, output_dir=tmp_path / "out")
    assert (tmp_path / "out" / "saved_model" / "1" / "saved_model.pb").is_file()


def test_examples_of_one_group_are_not_split(checkpoint, tmp_path):
    source = write_sst2(tmp_path, train=1)
    experiment = sst2(source, checkpoint)
    with pytest.raises(InputError, match="the 1 training examples cannot be split"):
        finetune(checkpoint, experiment, dataclasses.replace(OPTIONS, learning_rates=(1e-3, 1e-2)))


def test_low_precision_trains(checkpoint, experiment):
    options = dataclasses.replace(OPTIONS, precision="mixed_bfloat16")
    result = finetune(checkpoint, experiment, options)
    assert result.summary["dev"]["accuracy"]["mean"] >= 0.8


def test_summary_over_seeds():
    scores = [{"dev": {"f1": value}} for value in (0.5, 0.7, 0.9)]
    summary = summarize(scores)["dev"]["f1"]
    assert summary["mean"] == pytest.approx(0.7)
    assert summary["std"] == pytest.approx(np.std([0.5, 0.7, 0.9], ddof=1))
    assert summarize(scores[:1])["dev"]["f1"]["std"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rates": ()}, r"learning_rates=: expected at least one value, none twice"),
        ({"learning_rates": (1e-4, 1e-4)}, "none twice"),
        ({"learning_rates": (float("nan"),)}, "learning_rates=nan"),
        ({"learning_rates": (0.0,)}, r"learning_rates=0.0: expected finite numbers > 0"),
        ({"seeds": (-1,)}, "seeds=-1: expected whole numbers >= 0"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"epochs": 0}, "epochs=0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio=1.5: .* <= 1"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"weight_decay": float("nan")}, "weight_decay=nan"),
        ({"precision": "mixed_float16"}, "choose from float32, mixed_bfloat16"),
    ],
)
def test_options_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        FinetuneOptions(**change)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
