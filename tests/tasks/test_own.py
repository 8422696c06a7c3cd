"""Users' own tasks: classes and numbers from their files, splits, weights and predictions."""

import json
import sys

import numpy as np
import pytest

from etd_tf import tasks
from etd_tf.checkpoints import save_checkpoint
from etd_tf.cli import evaluate
from etd_tf.cli.app import run_command
from etd_tf.errors import InputError
from etd_tf.tasks.own import Classify, Pairs, Regress
from etd_tf.tasks.own_data import balanced_weights
from tests.evaluation.fixtures import write_sst2
from tests.helpers import tiny_checkpoint

WORDS = ("cat", "dog", "mat")


def write(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


@pytest.fixture
def train(tmp_path):
    return write(tmp_path / "train.csv", [f"the {WORDS[i % 3]} {i},{i % 3 + 9}" for i in range(60)])


def test_classes_are_those_of_the_training_rows(train, tmp_path):
    task = Classify(train=train)
    assert task.classes() == ("9", "10", "11")  # numbers in their order
    labels = [label for split in ("train", "dev") for label in task.read(split).labels]
    assert sorted(set(labels)) == [0, 1, 2]
    words = write(tmp_path / "w.jsonl", [], header='{"text": "a", "label": true}\n' * 3)
    with pytest.raises(InputError, match="all 3 rows have the label 'true'"):
        Classify(train=words).classes()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", " a ", "B2"], ("B2", "a", "b")),
        ([1.0, 0, 2.0], ("0", "1", "2")),
        ([True, False, True], ("false", "true")),
        ([-1, 1, 0], ("-1", "0", "1")),
    ],
)
def test_labels_of_json_lines_are_names(tmp_path, labels, names):
    rows = [json.dumps({"text": f"{i}", "label": label}) for i, label in enumerate(labels)]
    path = write(tmp_path / "train", rows[1:], header=rows[0])
    assert Classify(train=path, dev=path).classes() == names


def test_a_tenth_is_held_out_of_each_class(train):
    task = Classify(train=train)
    kept, held = task.read("train"), task.read("dev")
    assert (len(kept), len(held)) == (54, 6)
    assert np.bincount(held.labels).tolist() == [2, 2, 2]
    assert not set(kept.texts) & set(held.texts)
    assert held.indices.tolist() == sorted(held.indices)
    assert Classify(train=train).read("dev").texts == held.texts


def test_a_class_is_never_held_out_whole(tmp_path):
    rows = [f"{i},{'rare' if i in (3, 50) else 'usual'}" for i in range(60)]
    for first in range(10):
        path = write(tmp_path / "train.csv", rows[first:])
        task = Classify(train=path)
        assert set(task.read("train").labels) == {0, 1} or first > 3


def test_held_out_numbers_cover_their_range(tmp_path):
    task = Regress(train=write(tmp_path / "train.csv", [f"{i},{i / 7:.4f}" for i in range(100)]))
    held = np.sort(task.read("dev").labels) * 7
    assert len(held) == 10
    assert np.all(np.abs(held - (np.arange(10) * 10 + 5)) < 0.01)


@pytest.mark.parametrize("gap", ["NaN", "null", "-Infinity", '""'])
def test_a_gap_is_no_class(tmp_path, gap):
    path = tmp_path / "train.jsonl"
    lines = [f'{{"text": "t{i}", "label": {label}}}\n' for i, label in enumerate((0, 1, gap))]
    path.write_text("".join(lines), "utf-8")
    with pytest.raises(InputError, match=r"line 3: label is .*expected the name of a class"):
        Classify(train=str(path)).read("train")


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        (Classify, ["a,x", " ,y"], "line 3: text is ' ', expected a text"),
        (Classify, ["a,x", "b,"], r"line 3: label is empty \(''\), expected the name of a class"),
        (Classify, ["a,Yes", "b,yes"], "'Yes' and 'yes' differ only in case"),
        (Classify, ["a,1", "b,1.0", "c,0"], "'1' and '1.0' differ only in .* the point"),
        (Classify, ["a,caf\u00e9", "b,cafe\u0301"], "differ only in .* encoded"),
        (Classify, ["a,x", "b,x\u200b"], r"'x' and 'x\\u200b' differ only in .* invisible"),
        (Classify, [f"{i},{i / 3}" for i in range(80)], "80 different labels in 80 rows"),
        (Classify, ["a,x", "b,y"], "has 2 rows, too few to hold some out"),
        (Regress, ["a,1", "b,high"], "line 3: label is 'high', expected a finite number"),
        (Regress, ["a,1", "b,nan"], "line 3: label is 'nan', expected a finite number"),
        (Pairs, ["a,x"], "no column text_pair; found text, label"),
    ],
)
def test_rows_that_say_nothing_are_refused_by_line(tmp_path, kind, rows, message):
    with pytest.raises(InputError, match=message):
        kind(train=write(tmp_path / "train.csv", rows)).fingerprint()


def test_dev_has_no_class_of_its_own(train, tmp_path):
    dev = write(tmp_path / "dev.csv", ["a,9", "b,12"])
    with pytest.raises(InputError, match=r"dev.csv, line 3: label '12' is none .* 9, 10, 11"):
        Classify(train=train, dev=dev).read("dev")


def test_rows_of_dev_that_are_training_rows_are_counted(train, caplog):
    Classify(train=train, dev=train).read("dev")
    assert "The texts of 60 of 60 rows for dev are training rows" in caplog.text


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_sample_weight

    labels = np.asarray([0, 0, 0, 2, 2, 3])
    expected = compute_sample_weight("balanced", labels)
    np.testing.assert_allclose(balanced_weights(labels), expected, rtol=1e-6)


def test_weights_are_pytorchs():
    torch = pytest.importorskip("torch")
    from etd_tf.evaluation.task_losses import classification_loss

    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    labels = np.asarray([0, 0, 0, 2, 2, 3])
    weights = balanced_weights(labels)
    by_class = torch.ones(4)
    by_class[labels] = torch.from_numpy(weights)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), weight=by_class
    )
    batch = {"labels": labels, "weights": weights}
    assert float(classification_loss({"logits": logits}, batch)) == pytest.approx(float(expected))


def test_a_pair_is_two_columns(tmp_path):
    path = write(tmp_path / "t.tsv", ["1\ta\tb", "0\tc\td"], header="label\tq\tp")
    both = Pairs(train=path, dev=path, text_column="q", pair_column="p")
    assert both.read("train").texts == (("a", "b"), ("c", "d"))
    assert both.text_names == ("text", "text_pair")
    one = Classify(train=path, dev=path, text_column="q")
    assert one.read("train").texts == (("a",), ("c",))
    assert one.text_names == ("text",)


def test_own_files_train_as_glue_does(tmp_path, capsys):
    """SST-2 as somebody's own table gives the bits of the built-in task."""
    data = write_sst2(tmp_path / "glue") / "SST-2"
    model = tmp_path / "model"
    save_checkpoint(tiny_checkpoint(num_layers=1), model)
    shared = [f"--model={model}", "--epochs=2", "--batch_size=4", "--max_length=16"]
    glue = [*shared, "--task=glue/sst2", f"--glue_dir={tmp_path / 'glue'}"]
    own = [*shared, "--task=classify", f"--train={data}/train.tsv", f"--dev={data}/dev.tsv"]
    own.append("--text_column=sentence")
    for name, flags in {"a": glue, "b": own}.items():
        assert run_command(evaluate.COMMAND, [*flags, f"--output_dir={tmp_path / name}"]) == 0
    first, second = (json.loads((tmp_path / n / "results.json").read_text()) for n in "ab")
    assert first["cells"][0]["training_loss"] == second["cells"][0]["training_loss"]
    value = first["cells"][0]["scores"]["dev"]["accuracy"]
    assert second["cells"][0]["scores"]["dev"]["accuracy"] == value
    assert second["settings"]["label_names"] == ["0", "1"]
    capsys.readouterr()


def test_from_a_file_to_a_model_and_back(tmp_path, train, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    save_checkpoint(tiny_checkpoint(num_layers=1), model)
    test = write(tmp_path / "test.csv", ["a cat", "a dog", "a mat"], header="text")
    flags = [f"--train={train}", "--task=classify", f"--test={test}", "--class_weights=balanced"]
    training = ["--epochs=1", "--batch_size=8", f"--output_dir={out}", "--max_length=16"]
    assert run_command(evaluate.COMMAND, [f"--model={model}", *flags, *training]) == 0
    config = json.loads((out / "model/config.json").read_text())
    assert config["id2label"] == {"0": "9", "1": "10", "2": "11"}
    results = json.loads((out / "results.json").read_text())
    assert results["details"]["dev"]["labels"] == ["9", "10", "11"]
    assert np.sum(results["details"]["dev"]["confusion"], axis=1).tolist() == [2, 2, 2]
    right = np.trace(results["details"]["dev"]["confusion"])
    assert right / 6 == pytest.approx(results["summary"]["dev"]["accuracy"]["mean"])
    assert len(results["cells"][0]["curves"]["training"]) == 7  # 54 rows by 8
    assert "Confusion, dev" in (out / "report.html").read_text()
    assert "the cat" not in (out / "results.json").read_text()  # texts only where asked
    lines = (out / "predictions/test.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines[1:]] == ["0", "1", "2"]
    assert {line.split("\t")[1] for line in lines[1:]} <= {"9", "10", "11"}
    capsys.readouterr()
    # A model knows its classes: a file with labels is enough to score it.
    labelled = write(tmp_path / "new.csv", ["the cat,9", "the dog,10"])
    again = ["--task=classify", "--nofinetune", f"--test={labelled}", "--max_length=16"]
    shown = ["--show_examples=1", f"--output_dir={tmp_path / 'again'}"]
    assert run_command(evaluate.COMMAND, [f"--model={out / 'model'}", *again, *shown]) == 0
    assert "accuracy" in capsys.readouterr().out
    results = json.loads((tmp_path / "again" / "results.json").read_text())
    (worst,) = results["details"]["test"]["examples"]
    assert worst["texts"] in (["the cat"], ["the dog"])
    assert worst["label"] == {"cat": "9", "dog": "10"}[worst["texts"][0][4:]]
    page = (tmp_path / "again" / "report.html").read_text()
    assert "Worst examples, test" in page
    assert worst["texts"][0] in page
    assert run_command(evaluate.COMMAND, [f"--model={model}", *again[:1], *again[2:]]) == 2
    assert "train=FILE" in capsys.readouterr().err
    changed = [f"--model={model}", *flags[:-1], "--class_weights=none", *training]
    assert run_command(evaluate.COMMAND, changed) == 2  # another run is in the directory
    capsys.readouterr()


def test_regression_of_own_rows(tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    save_checkpoint(tiny_checkpoint(num_layers=1), model)
    rows = write(tmp_path / "train.csv", [f"{'cat ' * (i % 9)}mat,{i % 9}" for i in range(60)])
    flags = [f"--model={model}", "--task=regress", f"--train={rows}", f"--test={rows}"]
    training = ["--epochs=1", "--batch_size=8", f"--output_dir={out}", "--max_length=16"]
    training.append("--show_examples=3")
    assert run_command(evaluate.COMMAND, [*flags, *training]) == 0
    results = json.loads((out / "results.json").read_text())
    scores = results["cells"][0]["scores"]
    examples = results["details"]["dev"]["examples"]
    assert len(examples) == 3
    losses = [example["loss"] for example in examples]
    assert losses == sorted(losses, reverse=True)
    expected = [abs(float(one["label"]) - float(one["predicted"])) for one in examples]
    assert losses == pytest.approx(expected, abs=0.01)
    assert set(scores) == {"dev", "test"}
    assert set(scores["dev"]) == {"spearman", "pearson", "r2"}
    lines = (out / "predictions/test.tsv").read_text().splitlines()[1:]
    assert all(np.isfinite(float(line.split("\t")[1])) for line in lines)
    capsys.readouterr()


def test_data_is_asked_for():
    with pytest.raises(InputError, match="classify needs its data: pass train=FILE"):
        tasks.get("classify").check_source()
    with pytest.raises(InputError, match="class_weights=some"):
        tasks.get("classify", class_weights="some")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
