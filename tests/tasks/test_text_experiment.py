"""Experiments of texts with labels: scores, class order, prediction files."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import SequenceClassifier
from etd_tf.tasks.glue import GLUE_TASKS
from tests.evaluation.fixtures import write_sst2, write_stsb
from tests.helpers import tiny_checkpoint, tiny_tokenizer

MNLI_ROW = "index\tsentence1\tsentence2"


def experiment_of(name, source, checkpoint, **arguments):
    task = GLUE_TASKS[name].configured({"glue_dir": str(source), "max_length": 16})
    return task.experiment(checkpoint, **arguments)


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(num_layers=1)


class Oracle:
    """Stands for a model: its logits are the token counts of the given words."""

    def __init__(self, *words):
        self.ids = [tiny_tokenizer().backend.token_to_id(word) for word in words]

    def __call__(self, inputs):
        import tensorflow as tf

        tokens = tf.convert_to_tensor(inputs["token_ids"])
        counts = [tf.reduce_sum(tf.cast(tokens == i, tf.float32), axis=1) for i in self.ids]
        return {"logits": tf.stack(counts, axis=1)}


def write_mnli(folder, splits):
    names = {"e": "entailment", "n": "neutral", "c": "contradiction"}
    words = {"e": "cat", "n": "dog", "c": "mat"}
    for split, labels in splits.items():
        path = folder / GLUE_TASKS["mnli"].files[split].path
        path.parent.mkdir(parents=True, exist_ok=True)
        labelled = not split.startswith("test")
        rows = [MNLI_ROW + ("\tgold_label" if labelled else "")]
        for index, label in enumerate(labels):
            row = f"{index}\tthe {words[label]}\tsat"
            rows.append(row + (f"\t{names[label]}" if labelled else ""))
        path.write_text("\n".join(rows) + "\n")
    return folder


def test_scores_of_an_oracle_are_perfect(checkpoint, tmp_path):
    experiment = experiment_of("sst2", write_sst2(tmp_path), checkpoint)
    assert experiment.evaluate(Oracle("dog", "cat")) == {"dev": {"accuracy": 1.0}}
    assert experiment.evaluate(Oracle("cat", "dog")) == {"dev": {"accuracy": 0.0}}
    rows = experiment.held_out_split()[1]
    assert experiment.evaluate_training_rows(Oracle("dog", "cat"), rows) == {"accuracy": 1.0}
    assert experiment.training_set().labels["labels"].sum() == 24
    assert experiment.make_model(checkpoint).num_labels == 2


def test_mnli_has_two_dev_sets_three_submissions_and_any_class_order(checkpoint, tmp_path):
    write_mnli(tmp_path, {"dev_matched": "encc", "dev_mismatched": "ne", "test_matched": "ec"})
    write_mnli(tmp_path, {"test_mismatched": "nnc"})
    ax = tmp_path / "diagnostic" / "diagnostic.tsv"
    ax.parent.mkdir()
    ax.write_text(f"{MNLI_ROW}\n5\tthe dog\tran\n")
    names = ("contradiction", "entailment", "neutral")
    experiment = experiment_of("mnli", tmp_path, checkpoint, label_names=names)
    oracle = Oracle("mat", "cat", "dog")
    perfect = {"accuracy": 1.0}
    assert experiment.evaluate(oracle) == {"dev_matched": perfect, "dev_mismatched": perfect}
    paths = experiment.write_predictions(oracle, tmp_path / "out")
    assert [path.name for path in paths] == ["MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"]
    assert paths[0].read_text() == "index\tprediction\n0\tentailment\n1\tcontradiction\n"
    assert paths[2].read_text() == "index\tprediction\n5\tneutral\n"


def test_foreign_label_names_are_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"labels are LABEL_0, LABEL_1; the task's are negative"):
        experiment_of("sst2", write_sst2(tmp_path), checkpoint, label_names=("LABEL_0", "LABEL_1"))


def test_regression_scores_and_clipped_submissions(checkpoint, tmp_path):
    experiment = experiment_of("stsb", write_stsb(tmp_path), checkpoint)
    model = experiment.make_model(checkpoint)
    assert isinstance(model, SequenceClassifier)
    assert model.num_labels == 1
    scores = experiment.evaluate(model)["dev"]
    assert set(scores) == {"pearson", "spearman"}
    values = np.asarray([-0.5, 2.34567, 7.0])
    path = experiment.task.write_submission(tmp_path, "test", np.arange(3), values)
    assert path == tmp_path / "STS-B.tsv"
    assert path.read_text() == "index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n"


@pytest.mark.parametrize(
    ("task", "spelling"), [("cola", "1"), ("wnli", "1"), ("rte", "not_entailment"), ("qqp", "1")]
)
def test_submissions_spell_labels_as_the_server_does(tmp_path, task, spelling):
    path = GLUE_TASKS[task].write_submission(
        tmp_path / "new", "test", np.asarray([3]), np.asarray([1])
    )
    assert path.read_text() == f"index\tprediction\n3\t{spelling}\n"


def test_ax_and_missing_files_are_refused_early(checkpoint, tmp_path):
    with pytest.raises(InputError, match="Use task=glue/mnli"):
        experiment_of("ax", tmp_path, checkpoint)
    with pytest.raises(InputError, match=r"dev.tsv does not exist"):
        experiment_of("rte", tmp_path, checkpoint)


def test_malformed_test_sets_are_refused_before_training(checkpoint, tmp_path):
    source = write_sst2(tmp_path)
    (source / "SST-2" / "test.tsv").write_text("index\tsentence\nbroken\n")
    with pytest.raises(InputError, match=r"test.tsv, line 2"):
        experiment_of("sst2", source, checkpoint)


def test_missing_test_sets_are_left_out(checkpoint, tmp_path):
    source = write_sst2(tmp_path)
    (source / "SST-2" / "test.tsv").unlink()
    experiment = experiment_of("sst2", source, checkpoint)
    assert experiment.write_predictions(Oracle("dog", "cat"), tmp_path / "out") == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
