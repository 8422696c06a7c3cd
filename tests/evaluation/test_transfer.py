"""Distilling on a task: losses against NumPy, blocks, order of classes, choice and resume."""

import itertools
import json
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.cli import evaluate, transfer
from etd_tf.cli.app import run_command
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import SequenceClassifier
from etd_tf.evaluation.experiment import shares_kept
from etd_tf.evaluation.finetuned import FinetunedModel, load_finetuned
from etd_tf.evaluation.stages import LABELS, LOGITS, STATES, TransferOptions
from etd_tf.evaluation.training import FineTuner, Schedule, TrainingSet, WordTable
from etd_tf.evaluation.transfer import (
    StateMatcher,
    least_squares,
    logit_loss,
    opened_blocks,
    state_loss,
    teacher_outputs,
)
from etd_tf.tasks.own import Classify
from etd_tf.tasks.tag import Tag
from tests.helpers import contents, tiny_checkpoint

WORDS = ("cat", "dog", "mat")


def softmax(values):
    shifted = np.exp(values - values.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@pytest.fixture
def pairs():
    random = np.random.default_rng(0)
    return random.normal(size=(5, 3)).astype("f4"), random.normal(size=(5, 3)).astype("f4")


def test_logits_are_compared_by_squared_error(pairs):
    student, teacher = pairs
    value = logit_loss(None)({"logits": student}, {"teacher_logits": teacher})
    assert float(value) == pytest.approx(((student - teacher) ** 2).mean(), rel=1e-6)


def test_logits_at_a_temperature_are_a_soft_cross_entropy(pairs):
    student, teacher = pairs
    value = logit_loss(2.0)({"logits": student}, {"teacher_logits": teacher})
    expected = -4 * (softmax(teacher / 2) * np.log(softmax(student / 2))).sum(-1).mean()
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_at_a_high_temperature_the_gradient_is_that_of_squared_error(pairs):
    """The oracle of Hinton et al. 2015, section 2.1: centred logits over the classes."""
    import tensorflow as tf

    student, teacher = (values.astype("f8") for values in pairs)
    logits = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = logit_loss(1e3)({"logits": logits}, {"teacher_logits": teacher})
    centred = [values - values.mean(-1, keepdims=True) for values in (student, teacher)]
    expected = (centred[0] - centred[1]) / 3 / len(student)
    np.testing.assert_allclose(tape.gradient(value, logits), expected, atol=2e-4)


def test_a_score_has_no_temperature():
    one, other = np.asarray([[1.0]], "f4"), np.asarray([[3.0]], "f4")
    assert float(logit_loss(2.0)({"logits": one}, {"teacher_logits": other})) == 4.0


def test_states_are_compared_by_squared_error(pairs):
    value = state_loss({"state": pairs[0]}, {"teacher_state": pairs[1]})
    assert float(value) == pytest.approx(((pairs[0] - pairs[1]) ** 2).mean(), rel=1e-6)


def test_least_squares_finds_a_linear_map():
    random = np.random.default_rng(1)
    inputs, kernel, bias = (
        random.normal(size=(200, 4)),
        random.normal(size=(4, 6)),
        random.normal(size=6),
    )
    found = least_squares(inputs, inputs @ kernel + bias)
    np.testing.assert_allclose(found[0], kernel, atol=5e-3)
    np.testing.assert_allclose(found[1], bias, atol=5e-3)
    constant = least_squares(np.ones((3, 2)), np.full((3, 1), 7.0))  # nothing to learn from
    np.testing.assert_allclose(np.ones(2) @ constant[0] + constant[1], [7.0], atol=1e-5)


def test_blocks_open_from_the_top():
    model = SequenceClassifier(tiny_checkpoint(num_layers=3).config, 2)
    all_ = opened_blocks(model, "none")
    assert [len(block) for block in all_] == [len(model.trainable_variables)]
    assert [len(block) for block in opened_blocks(model, "head")] == [4, len(all_[0])]
    steps = opened_blocks(model, "layers")
    sizes = [len(step) for step in steps]
    assert sizes == [4, 20, 36, 52, len(all_[0])]
    for before, after in itertools.pairwise(steps):
        assert {id(v) for v in before} < {id(v) for v in after}
    kernels = {id(layer.intermediate.kernel) for layer in model.encoder.encoder_layers[2:]}
    assert kernels <= {id(v) for v in steps[1]}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A fine-tuned teacher, a smaller student and training rows."""
    folder = tmp_path_factory.mktemp("transfer")
    rows = [f"the {WORDS[i % 3]} sat {'on a mat ' * (i % 2)}{i},{'bca'[i % 3]}" for i in range(60)]
    (folder / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    save_checkpoint(tiny_checkpoint(0), folder / "bert")
    small = tiny_checkpoint(1, num_layers=1, hidden_size=6, num_heads=2, intermediate_size=8)
    save_checkpoint(small, folder / "student")
    flags = [f"--model={folder / 'bert'}", *shared(folder), f"--output_dir={folder / 'big'}"]
    assert run_command(evaluate.COMMAND, flags) == 0
    return folder


def shared(folder, **changes):
    flags = {"epochs": 2, "batch_size": 8, "learning_rates": 3e-3, "max_length": 16, **changes}
    told = [f"--{name}={value}" for name, value in flags.items()]
    return ["--task=classify", f"--train={folder / 'train.csv'}", *told]


def run(folder, out, *more, **changes):
    models = [f"--teacher={folder / 'big/model'}", f"--student={folder / 'student'}"]
    return run_command(
        transfer.COMMAND, [*models, *shared(folder, **changes), f"--output_dir={out}", *more]
    )


def test_teachers_classes_are_put_in_the_tasks_order(job):
    teacher = load_finetuned(job / "big/model")
    task = Classify(train=str(job / "train.csv"), max_length=16)
    view = task.experiment(teacher.checkpoint, teacher.label_names)
    sequences = view.training_set().sequences
    told = teacher_outputs(teacher, sequences, view.class_order, "").logits
    config = json.loads((job / "big/model/config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}
    other = job / "turned"
    save_checkpoint(load_checkpoint(job / "big/model"), other)
    from safetensors.numpy import load_file, save_file

    arrays = load_file(other / "model.safetensors")
    turn = [2, 0, 1]
    arrays["classifier.weight"] = arrays["classifier.weight"][turn]
    arrays["classifier.bias"] = arrays["classifier.bias"][turn]
    save_file(arrays, other / "model.safetensors", metadata={"format": "pt"})
    config["id2label"] = {str(i): "abc"[t] for i, t in enumerate(turn)}
    config["label2id"] = {name: int(i) for i, name in config["id2label"].items()}
    (other / "config.json").write_text(json.dumps(config))
    turned = load_finetuned(other)
    again = task.experiment(turned.checkpoint, turned.label_names)
    assert again.class_order != view.class_order
    found = teacher_outputs(turned, sequences, again.class_order, "").logits
    np.testing.assert_allclose(found, told, atol=1e-6)


def test_what_is_frozen_keeps_its_bytes(job):
    student = load_checkpoint(job / "student")
    model = SequenceClassifier(student.config, 3)
    task = Classify(train=str(job / "train.csv"), max_length=16)
    data = task.experiment(student).training_set()
    before = model.get_parameters()
    head, _ = opened_blocks(model, "head")
    tuner = FineTuner(model, SequenceClassifier.training_loss, variables=head)
    tuner.fit(data, Schedule(1e-2, 0, epochs=1, batch_size=16), description="")
    for name, value in model.get_parameters().items():
        same = np.array_equal(value, before[name])
        assert same == (not name.startswith(("head.", "pooler."))), name


def test_states_train_towards_the_teachers(job):
    student = load_checkpoint(job / "student")
    model = SequenceClassifier(student.config, 3)
    model.set_parameters({**model.get_parameters(), **student.parameters()})
    task = Classify(train=str(job / "train.csv"), max_length=16)
    sequences = task.experiment(student).training_set().sequences
    states = np.random.default_rng(0).normal(size=(len(sequences), 9)).astype("f4")
    matcher = StateMatcher(model, 9)
    before = model.get_parameters()
    trained = [v for v in model.encoder.trainable_variables if "pooler" not in v.path]
    tuner = FineTuner(
        matcher, state_loss, variables=[*trained, *matcher.projection.trainable_variables]
    )
    data = TrainingSet(sequences, {"teacher_state": states})
    first = tuner.fit(data, Schedule(1e-2, 0, epochs=1, batch_size=16), description="")
    last = tuner.fit(data, Schedule(1e-2, 0, epochs=8, batch_size=16), description="")
    assert last < first
    after = model.get_parameters()
    assert not np.array_equal(after["embeddings.token"], before["embeddings.token"])
    np.testing.assert_array_equal(after["pooler.kernel"], before["pooler.kernel"])


def test_a_small_copy_of_a_fine_tuned_model(job, tmp_path, capsys):
    more = tmp_path / "more.txt"
    more.write_text("a cat\n\na mat sat\n")
    out = tmp_path / "small"
    assert run(job, out, f"--unlabelled={more}", "--saved_model", learning_rates="3e-3,1e-3") == 0
    printed = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert [cell["phase"] for cell in results["cells"]] == ["selection"] * 2 + ["final"]
    chosen = {
        (cell["learning_rate"], split.split()[1]): scores["accuracy"]
        for cell in results["cells"][:2]
        for split, scores in cell["scores"].items()
    }
    assert {stage for _, stage in chosen} == {LOGITS, LABELS}
    assert chosen[results["learning_rate"], results["stage"]] == max(chosen.values())
    big = json.loads((job / "big/results.json").read_text())
    assert results["teacher"]["dev"] == pytest.approx(big["cells"][0]["scores"]["dev"], abs=1e-6)
    share = results["summary"]["dev"]["accuracy"]["mean"] / results["teacher"]["dev"]["accuracy"]
    assert results["kept"]["dev"] == share
    assert f"{share:.1%}" in printed
    assert load_finetuned(out / "model").label_names == ("a", "b", "c")
    assert (out / "saved_model/1/saved_model.pb").is_file()
    assert run(job, out) == 2  # finished, and another run
    capsys.readouterr()


def test_an_interruption_changes_nothing(job, tmp_path, monkeypatch, capsys):
    from etd_tf.evaluation.transfer import _StagedTrainings

    assert run(job, tmp_path / "a") == 0

    def stop(self, rate, seed):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_StagedTrainings, "final", stop)
        assert run(job, tmp_path / "b") == 130
    kept = (tmp_path / "b/teacher_outputs.npz").stat().st_mtime_ns
    assert run(job, tmp_path / "b") == 0
    assert (tmp_path / "b/teacher_outputs.npz").stat().st_mtime_ns == kept
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    damaged = tmp_path / "b/teacher_outputs.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert run(job, tmp_path / "b", "--overwrite") == 0
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    capsys.readouterr()


def test_labels_decide_nothing_before_their_stage(job, tmp_path, capsys):
    rows = (job / "train.csv").read_text().splitlines()
    texts, labels = zip(*(row.rsplit(",", 1) for row in rows[1:]), strict=True)
    turned = tmp_path / "train.csv"
    moved = [f"{text},{label}" for text, label in zip(texts, labels[1:] + labels[:1], strict=True)]
    turned.write_text("\n".join([rows[0], *moved]) + "\n")
    alone = [f"--dev={job / 'train.csv'}", "--stages=states,logits"]
    assert run(job, tmp_path / "a", *alone) == 0
    (tmp_path / "big").symlink_to(job / "big")
    (tmp_path / "student").symlink_to(job / "student")
    assert run(tmp_path, tmp_path / "b", *alone) == 0
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stages=states"], "ends with states, which trains no head"),
        (["--stages=logits,states"], "ends with states"),
        (["--stages=words"], "choose from states, logits, labels"),
        (["--unlabelled=nowhere"], "nowhere"),
        (["--temperature=0"], "temperature"),
    ],
)
def test_flags_are_checked(job, tmp_path, capsys, more, message):
    assert run(job, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err


def test_a_teacher_is_fine_tuned(job, tmp_path, capsys):
    flags = [f"--teacher={job / 'bert'}", f"--student={job / 'student'}", *shared(job)]
    assert run_command(transfer.COMMAND, [*flags, f"--output_dir={tmp_path / 'o'}"]) == 2
    assert "is not fine-tuned" in capsys.readouterr().err


def test_words_alone_are_compared():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3, 4)).astype("f4")
    table = WordTable(vectors, np.asarray([[-100, 0, -100, 1], [-100, 2, -100, -100]]))
    wanted = np.asarray(table[np.asarray([0, 1])])
    np.testing.assert_array_equal(wanted[0, 3], vectors[1])
    assert np.isnan(wanted).sum() == 5 * 4
    assert np.asarray(table[np.asarray([1])]).shape == (1, 4, 4)
    found = random.normal(size=(2, 3, 4)).astype("f4")  # the word in column 3 is out of reach
    ours, theirs = np.stack([found[0, 1], found[1, 1]]), vectors[[0, 2]]
    expected = np.mean((ours - theirs) ** 2)
    batch = {"teacher_state": wanted, "teacher_logits": wanted}
    assert float(state_loss({"state": found}, batch)) == pytest.approx(expected, rel=1e-5)
    loss = logit_loss(None)({"logits": found}, batch)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    soft = logit_loss(2.0)({"logits": found}, batch)
    entropy = -(softmax(theirs / 2) * np.log(softmax(ours / 2))).sum(-1).mean()
    assert float(soft) == pytest.approx(4 * entropy, rel=1e-5)


def write_tags(path, count, seed=0):
    random = np.random.default_rng(seed)
    names = {"cat": "B-PET", "dog": "B-PET", "mat": "O", "the": "O", "sat": "O"}
    blocks = []
    for _ in range(count):
        words = random.choice(list(names), size=random.integers(2, 12))
        blocks.append("".join(f"{word} {names[word]}\n" for word in words))
    path.write_text("\n".join(blocks))
    return str(path)


def test_what_the_teacher_says_of_words_is_in_the_tasks_order(tmp_path):
    path = write_tags(tmp_path / "t", 6)
    task = Tag(train=path, dev=path, max_length=8)
    checkpoint = tiny_checkpoint(0)
    view = task.experiment(checkpoint, ["I-PET", "O", "B-PET"])
    model = view.make_model(checkpoint)
    model.output_dense.kernel.assign(np.random.default_rng(0).normal(size=(15, 3)))
    teacher = FinetunedModel(model, checkpoint, ("I-PET", "O", "B-PET"))
    sequences = view.training_set().sequences
    told = teacher_outputs(teacher, sequences, view.class_order, "", words=view.training_words)
    assert len(told.logits) == len(told.states) == task.read("train").lengths.sum()
    row = {name: value[:1] for name, value in sequences.batch(np.asarray([0])).items()}
    logits = np.asarray(model(row)["logits"])[0][view.training_words[0]]
    np.testing.assert_allclose(told.logits[: len(logits)], logits[:, [1, 2, 0]], atol=1e-5)
    states = np.asarray(model.encoder(row)["sequence_output"])[0][view.training_words[0]]
    np.testing.assert_allclose(told.states[: len(logits)], states, atol=1e-5)
    spread = np.asarray(view.by_token(told.labels())["teacher_logits"])
    labels = view.training_set().labels["labels"]
    assert spread.shape[:2] == labels.shape
    np.testing.assert_array_equal(np.isfinite(spread[..., 0]), labels >= 0)


def test_a_small_copy_of_a_model_that_tags(tmp_path, capsys):
    save_checkpoint(tiny_checkpoint(0), tmp_path / "bert")
    small = tiny_checkpoint(1, num_layers=1, hidden_size=6, num_heads=2, intermediate_size=8)
    save_checkpoint(small, tmp_path / "student")
    train = write_tags(tmp_path / "train.conll", 60)
    flags = ["--task=tag", f"--train={train}", "--batch_size=8", "--max_length=10"]
    big = [f"--model={tmp_path / 'bert'}", "--epochs=10", f"--output_dir={tmp_path / 'big'}"]
    assert run_command(evaluate.COMMAND, [*flags, *big, "--learning_rates=5e-3"]) == 0
    models = [f"--teacher={tmp_path / 'big/model'}", f"--student={tmp_path / 'student'}"]
    more = ["--epochs=20", "--learning_rates=1e-2", "--stages=states,logits"]
    out = [f"--output_dir={tmp_path / 'small'}"]
    capsys.readouterr()
    assert run_command(transfer.COMMAND, [*flags, *models, *more, *out]) == 0
    results = json.loads((tmp_path / "small/results.json").read_text())
    assert results["teacher"]["dev"]["f1"] > 0.9
    assert results["kept"]["dev"] > 0.9  # learnt of the teacher's logits alone
    assert set(results["cells"][-1]["curves"]) == {"states", "logits"}
    assert "of the teacher&#x27;s, dev" in (tmp_path / "small/report.html").read_text()
    assert load_finetuned(tmp_path / "small/model").label_names == ("O", "B-PET", "I-PET")
    texts = [f"--unlabelled={train}", "--overwrite"]
    assert run_command(transfer.COMMAND, [*flags, *models, *more, *out, *texts]) == 2
    assert "task=tag reads words. Leave it out" in capsys.readouterr().err


def test_the_share_kept():
    student = {"dev": {"f1": 0.4}, "test": {"f1": 0.4}}
    teacher = {"dev": {"f1": 0.8}, "test": {"f1": 0.0}}
    assert shares_kept(student, teacher, "f1") == {"dev": 0.5, "test": None}
    assert TransferOptions().ends() == (LOGITS, LABELS)
    with pytest.raises(InputError):
        TransferOptions(stages=(STATES,))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
