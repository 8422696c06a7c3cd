"""Distilling on a task: losses against NumPy, blocks, order of classes, choice and resume."""

import dataclasses
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
from etd_tf.evaluation.imitation import StateMatcher, state_loss
from etd_tf.evaluation.stages import LABELS, LOGITS, STATES, TransferOptions
from etd_tf.evaluation.teacher import outputs_key, teacher_outputs
from etd_tf.evaluation.training import FineTuner, Schedule, TrainingSet
from etd_tf.evaluation.transfer import opened_blocks
from etd_tf.modeling.reading import Reading
from etd_tf.tasks.own import Classify, Pairs
from etd_tf.tasks.tag import Tag
from tests.evaluation.fixtures import write_squad
from tests.helpers import contents, tiny_checkpoint

WORDS = ("cat", "dog", "mat")


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


def run(folder, out, *more, student=("--student={}/student",), **changes):
    models = [f"--teacher={folder / 'big/model'}", *(flag.format(folder) for flag in student)]
    places = [f"--output_dir={out}", f"--cache_dir={folder / 'cache'}"]
    return run_command(transfer.COMMAND, [*models, *shared(folder, **changes), *places, *more])


def kept(folder):
    """The files with the teacher's outputs, and when they were written."""
    return {p: p.stat().st_mtime_ns for p in (folder / "cache/teacher_outputs").glob("*.npz")}


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
    before = kept(job)
    assert run(job, tmp_path / "b") == 0
    assert kept(job) == before  # the teacher did not run again
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    for damaged in before:
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
    (tmp_path / "cache").symlink_to(job / "cache")
    assert run(tmp_path, tmp_path / "b", *alone) == 0
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    capsys.readouterr()


def test_labels_of_dev_decide_nothing(job, tmp_path, capsys):
    rows = (job / "train.csv").read_text().splitlines()
    texts, labels = zip(*(row.rsplit(",", 1) for row in rows[1:13]), strict=True)
    results = []
    for name, turned in (("a", labels), ("b", labels[1:] + labels[:1])):
        dev = tmp_path / f"{name}.csv"
        pairs = zip(texts, turned, strict=True)
        dev.write_text("\n".join([rows[0], *(f"{text},{label}" for text, label in pairs)]) + "\n")
        flags = [f"--dev={dev}", "--epochs=1"]
        assert run(job, tmp_path / name, *flags, learning_rates="3e-3,1e-3") == 0
        results.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert results[0]["summary"] != results[1]["summary"]
    for what in ("learning_rate", "stage"):
        assert results[0][what] == results[1][what]
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stages=states"], "ends with states, which trains no head"),
        (["--stages=logits,states"], "ends with states"),
        (["--stages=words"], "choose from states, layers, logits, labels"),
        (["--unlabelled=nowhere"], "nowhere"),
        (["--temperature=0"], "temperature"),
    ],
)
def test_flags_are_checked(job, tmp_path, capsys, more, message):
    assert run(job, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err


def test_a_student_is_cut_out_of_the_teacher_by_the_tasks_texts(job, tmp_path, capsys):
    sizes = ["--student_layers=1", "--student_hidden=6", "--student_heads=3"]
    cut = [*sizes, "--student_intermediate=8", "--importance_examples=16"]
    short = ["--stages=logits", "--epochs=1"]
    assert run(job, tmp_path / "a", *short, student=cut) == 0
    model = load_finetuned(tmp_path / "a/model").model
    assert (model.config.num_layers, model.config.hidden_size) == (1, 6)
    (plan,) = (job / "cache/cut").glob("*/plan.json")
    made = plan.stat().st_mtime_ns
    assert run(job, tmp_path / "b", *short, student=cut) == 0
    assert plan.stat().st_mtime_ns == made
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    rand = [*cut[:-1], "--extraction=rand", "--seed=3"]
    assert run(job, tmp_path / "c", *short, student=rand) == 0
    assert contents(tmp_path / "a/model") != contents(tmp_path / "c/model")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ((), "There is no student"),
        (("--student=s", "--student_layers=1"), "student_layers have no effect"),
        (("--student=s", "--extraction=rand"), "extraction have no effect"),
    ],
)
def test_a_student_is_given_or_cut(job, tmp_path, capsys, student, message):
    assert run(job, tmp_path / "out", student=student) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["tinybert", "minilmv2"])
def test_layers_are_imitated_before_the_logits(job, tmp_path, capsys, loss):
    """TinyBERT's second step: states and attention of the task's texts, then soft labels."""
    cut = ["--student_layers=1", "--extraction=rand"]
    steps = ["--stages=layers,logits", "--temperature=1", f"--layer_loss={loss}", "--epochs=1"]
    flags = {"student": cut, "learning_rates": "3e-3"}
    assert run(job, tmp_path / "a", *steps, **flags) == 0
    results = json.loads((tmp_path / "a/results.json").read_text())
    assert results["stage"] == LOGITS
    assert results["settings"]["layer_loss"] == loss
    assert run(job, tmp_path / "b", *steps, **flags) == 0
    assert contents(tmp_path / "a/model") == contents(tmp_path / "b/model")
    assert run(job, tmp_path / "c", "--stages=logits", *steps[1:], **flags) == 0
    assert contents(tmp_path / "a/model") != contents(tmp_path / "c/model")
    capsys.readouterr()


def test_layers_of_other_tokens_and_heads_are_refused(job, tmp_path, capsys):
    assert run(job, tmp_path / "out", "--stages=layers,logits") == 2  # the loss needs equal heads
    assert "heads" in capsys.readouterr().err
    assert run(job, tmp_path / "out", "--stages=layers") == 2
    assert "ends with layers, which trains no head" in capsys.readouterr().err


def test_another_head_on_the_same_encoder_is_another_teacher(job):
    teacher = load_finetuned(job / "big/model")
    task = Classify(train=str(job / "train.csv"), max_length=16)
    view = task.experiment(teacher.checkpoint, teacher.label_names)
    sequences, order = view.training_set().sequences, view.class_order
    key = outputs_key(teacher, sequences, order)
    assert key == outputs_key(teacher, sequences, order)
    head = teacher.checkpoint.task_head
    other = dataclasses.replace(
        teacher,
        checkpoint=teacher.checkpoint.replace(
            task_head=dataclasses.replace(head, bias=head.bias + 1)
        ),
    )
    keys = {
        key,
        outputs_key(other, sequences, order),
        outputs_key(teacher, sequences, order[::-1]),
        outputs_key(teacher, sequences.take(np.arange(5)), order),
    }
    assert len(keys) == 4


@pytest.fixture(scope="module")
def pairs_job(job, tmp_path_factory):
    """Teachers of pairs that read each text alone, and both in one sequence."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [f"the {WORDS[i % 3]} sat,a {WORDS[i % 2]} {i},{'xy'[i % 2]}" for i in range(40)]
    (folder / "train.csv").write_text("text,text_pair,label\n" + "\n".join(rows) + "\n")
    (folder / "student").symlink_to(job / "student")
    for name, reading in (("twin", "--pairs=twin"), ("joint", "--pairs=joint")):
        flags = [f"--model={job / 'bert'}", *shared(folder, epochs=1)[1:], "--task=pairs"]
        flags += [reading, "--pool=mean", f"--output_dir={folder / name}"]
        assert run_command(evaluate.COMMAND, flags) == 0
    return folder


def run_pairs(folder, teacher, out, *more):
    flags = [f"--teacher={folder / teacher / 'model'}", f"--student={folder / 'student'}"]
    flags += [*shared(folder, epochs=1)[1:], "--task=pairs", f"--cache_dir={folder / 'cache'}"]
    return run_command(transfer.COMMAND, [*flags, f"--output_dir={out}", *more])


def test_students_read_pairs_as_they_are_told(pairs_job, tmp_path, capsys):
    twin = ["--pairs=twin", "--pool=mean"]
    more = tmp_path / "more.txt"
    more.write_text("a cat\ta dog\nthe mat\ta mat sat\n")
    assert run_pairs(pairs_job, "twin", tmp_path / "a", *twin, f"--unlabelled={more}") == 0
    model = load_finetuned(tmp_path / "a/model").model
    assert model.reading == Reading("mean", "twin")
    assert model.output_dense.kernel.shape[0] == 4 * model.config.hidden_size
    # A teacher of both texts in one sequence teaches by its logits.
    assert run_pairs(pairs_job, "joint", tmp_path / "b", *twin) == 2
    assert "their states are of other texts" in capsys.readouterr().err
    assert run_pairs(pairs_job, "joint", tmp_path / "b", *twin, "--stages=logits") == 0
    assert run_pairs(pairs_job, "joint", tmp_path / "c", *twin, "--stages=layers,logits") == 2
    assert "other tokens" in capsys.readouterr().err


def test_a_teachers_states_are_those_that_its_head_reads(pairs_job):
    teacher = load_finetuned(pairs_job / "twin/model")
    task = Pairs(train=str(pairs_job / "train.csv"), max_length=16)
    view = task.experiment(teacher.checkpoint, teacher.label_names)
    data = view.training_set().sequences.take(np.arange(6))
    found = teacher_outputs(teacher, data, view.class_order, "")
    outputs = teacher.model.encoder(batch := data.batch(np.arange(6)))
    lengths, states = batch["padding_mask"].sum(1), np.asarray(outputs["sequence_output"])
    means = np.stack([row[:n].mean(0) for row, n in zip(states, lengths, strict=True)])
    np.testing.assert_allclose(found.states, np.stack([means[:6], means[6:]], 1), atol=1e-5)
    u, v = means[:6], means[6:]
    head = teacher.checkpoint.task_head
    logits = np.concatenate([u, v, abs(u - v), u * v], 1) @ head.kernel + head.bias
    np.testing.assert_allclose(found.logits, logits[:, view.class_order], atol=1e-5)


def test_answer_spans_are_distilled(job, tmp_path, capsys):
    write_squad(tmp_path)
    data = ["--task=squad/v1.1", f"--squad_dir={tmp_path}", "--max_length=23", "--doc_stride=8"]
    data += ["--epochs=1", "--learning_rates=3e-3"]
    big = [f"--model={job / 'bert'}", *data, f"--output_dir={tmp_path / 'big'}"]
    assert run_command(evaluate.COMMAND, big) == 0
    flags = [f"--teacher={tmp_path / 'big/model'}", "--student_layers=1", "--extraction=rand"]
    flags += [*data, f"--cache_dir={tmp_path / 'cache'}"]
    assert run_command(transfer.COMMAND, [*flags, f"--output_dir={tmp_path / 'no'}"]) == 2
    assert "stages=logits,labels" in capsys.readouterr().err
    stages = ["--stages=layers,logits,labels", "--temperature=2"]
    small = [*flags, *stages, f"--output_dir={tmp_path / 'small'}"]
    assert run_command(transfer.COMMAND, small) == 0
    results = json.loads((tmp_path / "small/results.json").read_text())
    assert set(results["kept"]) == {"dev"}
    assert load_finetuned(tmp_path / "small/model").model.head_name == "qa_outputs"
    capsys.readouterr()


def test_a_teacher_is_fine_tuned(job, tmp_path, capsys):
    flags = [
        f"--cache_dir={job / 'cache'}",
        f"--teacher={job / 'bert'}",
        f"--student={job / 'student'}",
        *shared(job),
    ]
    assert run_command(transfer.COMMAND, [*flags, f"--output_dir={tmp_path / 'o'}"]) == 2
    assert "is not fine-tuned" in capsys.readouterr().err


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
