"""SQuAD experiments end to end on a tiny dataset."""

import json
import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation.finetuned import load_finetuned
from etd_tf.evaluation.finetuning import finetune
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.tasks.squad import SquadV1, SquadV2
from etd_tf.tasks.squad_data import load_squad
from etd_tf.tasks.squad_metrics import score_predictions
from tests.evaluation.fixtures import write_squad
from tests.helpers import tiny_checkpoint

WINDOWS = {"max_length": 16, "doc_stride": 5}


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(num_layers=1, hidden_dropout=0.0, attention_dropout=0.0)


def test_finetuning_writes_what_the_official_script_reads(checkpoint, tmp_path):
    source = write_squad(tmp_path / "squad")
    experiment = SquadV1(squad_dir=str(source), **WINDOWS).experiment(checkpoint)
    options = FinetuneOptions(learning_rates=(1e-2,), epochs=2, batch_size=4)
    result = finetune(checkpoint, experiment, options, output_dir=tmp_path / "out")
    scores = result.cells[0].scores["dev"]
    assert set(scores) == {"exact_match", "f1"}
    dataset = load_squad("v1.1", "dev", source)
    predictions = json.loads((tmp_path / "out/predictions/dev_predictions.json").read_text())
    assert score_predictions(dataset, predictions) == scores
    num_best = json.loads((tmp_path / "out/predictions/dev_nbest.json").read_text())
    assert all(num_best[key][0]["text"] == text for key, text in predictions.items())
    contexts = " ".join(dataset.contexts)
    assert all(text and text in contexts for text in predictions.values())
    assert not (tmp_path / "out/predictions/dev_null_odds.json").exists()
    loaded = load_finetuned(tmp_path / "out" / "model")
    assert experiment.evaluate(loaded.model)["dev"] == scores


def test_v2_predicts_no_answer_and_its_odds(checkpoint, tmp_path):
    source = write_squad(tmp_path, "v2.0")
    experiment = SquadV2(squad_dir=str(source), **WINDOWS).experiment(checkpoint)
    model = experiment.make_model(checkpoint)
    weights = model.get_parameters()
    weights["head.kernel"] = np.zeros_like(weights["head.kernel"])
    model.set_parameters(weights)  # all logits are equal, so no answer is not ahead
    scores = experiment.evaluate(model)["dev"]
    assert scores["no_answer_f1"] == 0.0
    baseline = experiment.baseline()["dev"]
    assert {name: one.value for name, one in baseline.items()} == {"f1": 50.0, "exact_match": 50.0}
    paths = experiment.write_predictions(model, tmp_path / "out")
    odds = json.loads(paths[-1].read_text())
    assert paths[-1].name == "dev_null_odds.json"
    assert set(odds.values()) == {0.0}


def test_held_out_articles_are_whole(checkpoint, tmp_path):
    source = str(write_squad(tmp_path))
    experiment = SquadV1(squad_dir=source, **WINDOWS).experiment(checkpoint)
    train, held_out = experiment.held_out_split()
    groups = experiment.training_groups()
    assert not set(groups[train]) & set(groups[held_out])
    assert len(set(groups[held_out])) == 1
    model = experiment.make_model(checkpoint)
    scores = experiment.evaluate_training_rows(model, held_out)
    assert 0.0 <= scores["f1"] <= 100.0


def test_bad_sources_are_refused_early(checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"dev-v1.1.json does not exist"):
        SquadV1(squad_dir=str(tmp_path)).experiment(checkpoint)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
