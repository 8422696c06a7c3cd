"""Token classification: windows, scores of an oracle, training from a file to a model."""

import json
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import save_checkpoint
from etd_tf.cli import evaluate
from etd_tf.cli.app import run_command
from etd_tf.errors import InputError
from etd_tf.evaluation.task_losses import IGNORED
from etd_tf.tasks.tag import Tag
from etd_tf.tasks.tag_experiment import make_windows
from tests.helpers import tiny_checkpoint, tiny_tokenizer

WORDS = {"cat": "B-PET", "dog": "I-PET", "mat": "O", "the": "O"}


def write(path, sentences, tagged=True):
    lines = [
        "".join(f"{w} {WORDS.get(w, 'O')}\n" if tagged else f"{w}\n" for w in words)
        for words in sentences
    ]
    path.write_text("\n".join(lines))
    return str(path)


def sentences(count, seed=0):
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        words = [str(generator.choice(["mat", "the"])) for _ in range(generator.integers(2, 6))]
        found.append([*words, "cat", *["dog"] * int(generator.integers(0, 2)), "the"])
    return found


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(num_layers=1)


class Oracle:
    """Stands for a model: the logit of a word's own tag is 1 at its only token."""

    def __init__(self, names):
        self.names, self.backend = names, tiny_tokenizer().backend

    def __call__(self, inputs):
        import tensorflow as tf

        table = np.zeros((100, len(self.names)), np.float32)
        for word, tag in WORDS.items():
            table[self.backend.token_to_id(word), self.names.index(tag)] = 1.0
        return {"logits": tf.gather(tf.constant(table), tf.convert_to_tensor(inputs["token_ids"]))}


def test_windows_hold_every_word_once(checkpoint):
    texts = [["the"] * 3, ["cat"] * 9, ["catdogmat" * 3, "dog"], ["\u200b", "mat"]]
    windows = make_windows(checkpoint, texts, max_length=6)
    ids = {word: tiny_tokenizer().backend.token_to_id(word) for word in ("the", "cat", "mat")}
    assert windows.sentence.tolist() == [0, 1, 1, 1, 2, 2, 3]
    assert [len(places) for places in windows.places] == [3, 3, 3, 3, 1, 1, 2]
    assert windows.cut == 1  # the word of 27 letters has more tokens than a window
    assert windows.sequences.lengths.max() == 6
    for number, (row, places) in enumerate(
        zip(windows.sequences.token_ids, windows.places, strict=True)
    ):
        assert row[0] == tiny_tokenizer().cls_id
        assert row[-1] == tiny_tokenizer().sep_id
        if number < 4:
            assert set(row[places]) == {ids["cat" if number else "the"]}
    assert windows.sequences.token_ids[-1][1] == tiny_tokenizer().unk_id  # of no token
    table = windows.label_table(np.arange(16))
    assert table.shape == (7, 8)
    assert table[table != IGNORED].tolist() == list(range(16))
    assert table[4, 1:6].tolist() == [12, *[IGNORED] * 4]


def test_a_word_behind_another_is_tokenised_as_in_text(checkpoint):
    """Byte-level tokenizers write the blank into the token."""
    from etd_tf.tokenization.tokenizer import Tokenizer

    pytest.importorskip("tokenizers")
    import tokenizers

    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        ["the cat sat on the mat"] * 9,
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    tokenizer = Tokenizer({"tokenizer.json": bpe.to_str().encode()})
    model = tiny_checkpoint(num_layers=1, vocab_size=300, pad_token_id=1)
    model = model.replace(tokenizer=tokenizer)
    windows = make_windows(model, [["the", "cat", "sat"]], max_length=20)
    text = bpe.encode("the cat sat")
    assert windows.sequences.token_ids[0][1:-1].tolist() == text.ids
    starts = [place + 1 for place, token in enumerate(text.tokens) if token.startswith("\u0120")]
    assert windows.places[0].tolist() == [1, *starts]


def test_scores_of_an_oracle_are_perfect_in_any_class_order(checkpoint, tmp_path):
    path = write(tmp_path / "t", sentences(20))
    task = Tag(train=path, dev=path, test=path, max_length=6)
    names = ("I-PET", "O", "B-PET")
    experiment = task.experiment(checkpoint, names)
    perfect = {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}
    assert experiment.evaluate(Oracle(("O", "B-PET", "I-PET")))["dev"]["f1"] == 0.0
    assert experiment.evaluate(Oracle(names)) == {"dev": perfect, "test": perfect}
    rows = experiment.held_out_split()[1]
    assert experiment.evaluate_training_rows(Oracle(names), rows) == perfect
    experiment.show_examples = 1
    details = experiment.details()["dev"]
    pets = sum(words.count("cat") for words in sentences(20))
    exact = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": pets}
    assert details["classes"] == {"PET": exact}
    assert details["confusion"][1] == [0, pets, 0]
    assert details["examples"][0]["loss"] == 0
    (written,) = experiment.write_predictions(Oracle(names), tmp_path / "out")
    assert written.read_text() == (tmp_path / "t").read_text().replace(" ", "\t")
    baseline = experiment.baseline()["dev"]
    labels = np.concatenate([[WORDS[w] == "O" for w in words] for words in sentences(20)])
    assert baseline["accuracy"].value == pytest.approx(labels.mean())
    assert (baseline["f1"].value, baseline["f1"].answer) == (0.0, "always answering O")
    with pytest.raises(InputError, match="labels are O; the task's are O, B-PET, I-PET"):
        task.experiment(checkpoint, ["O"])


def test_the_worst_sentence_is_the_one_with_most_wrong_words(checkpoint, tmp_path):
    path = write(tmp_path / "t", [["the", "cat"], ["cat", "dog", "the", "cat"], ["mat"]])
    experiment = Tag(train=path, dev=path).experiment(checkpoint)
    swapped = Oracle(("O", "I-PET", "B-PET"))  # names B- what is I-
    assert experiment.evaluate(swapped)["dev"]["f1"] < 1.0
    experiment.show_examples = 1
    (worst,) = experiment.details()["dev"]["examples"]
    assert worst == {
        "texts": ["cat dog the cat"],
        "label": "PET: cat dog; PET: cat",
        "predicted": "PET: cat; PET: dog; PET: cat",
        "loss": 3.0,
    }


def test_windows_and_cut_words_are_counted(checkpoint, tmp_path, caplog):
    path = write(tmp_path / "t", [["catdogmatcatdog", "cat", "the", "mat", "the", "the"]] * 3)
    experiment = Tag(train=path, dev=path, max_length=6).experiment(checkpoint)
    experiment.training_set()
    assert "cut between words into 6 more parts; 3 words are longer" in caplog.text


def test_from_a_file_to_a_model_and_back(tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    save_checkpoint(tiny_checkpoint(num_layers=1), model)
    train = write(tmp_path / "train.conll", sentences(60))
    test = write(tmp_path / "test.conll", sentences(4, seed=1), tagged=False)
    flags = ["--task=tag", f"--train={train}", f"--test={test}", f"--output_dir={out}"]
    training = ["--epochs=30", "--batch_size=8", "--learning_rates=1e-2", "--max_length=16"]
    assert run_command(evaluate.COMMAND, [f"--model={model}", *flags, *training]) == 0
    assert "always answering O" not in capsys.readouterr().out
    config = json.loads((out / "model/config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["id2label"] == {"0": "O", "1": "B-PET", "2": "I-PET"}
    results = json.loads((out / "results.json").read_text())
    assert results["summary"]["dev"]["f1"]["mean"] > 0.9
    assert results["baseline"]["dev"]["f1"] == 0.0
    lines = (out / "predictions/test.conll").read_text().splitlines()
    words = (tmp_path / "test.conll").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == words
    # A model knows its tags: a file with tags is enough to score it.
    again = ["--task=tag", "--nofinetune", f"--dev={train}", "--max_length=16"]
    assert run_command(evaluate.COMMAND, [f"--model={out / 'model'}", *again]) == 0
    assert "f1" in capsys.readouterr().out
    taught = [*again, f"--teacher={out / 'model'}"]
    assert run_command(evaluate.COMMAND, [f"--model={out / 'model'}", *taught]) == 0
    assert "100.0%" in capsys.readouterr().out


def test_transformers_pipeline_tags_as_we_do(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    path = write(tmp_path / "t", sentences(12))
    checkpoint = tiny_checkpoint(num_layers=1)
    experiment = Tag(train=path, dev=path, test=path).experiment(checkpoint)
    model = experiment.make_model(checkpoint)
    generator = np.random.default_rng(0)
    weights = {n: generator.normal(0, 0.5, v.shape) for n, v in model.get_parameters().items()}
    model.set_parameters({n: v.astype("f4") for n, v in weights.items()})
    experiment.save_model(model, tmp_path / "m")
    (ours,) = experiment.write_predictions(model, tmp_path)
    run = transformers.pipeline("token-classification", str(tmp_path / "m"), ignore_labels=[])
    for words, block in zip(sentences(12), ours.read_text().split("\n\n"), strict=True):
        expected = [line.split("\t")[1] for line in block.splitlines()]
        assert [one["entity"] for one in run(" ".join(words))] == expected


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
