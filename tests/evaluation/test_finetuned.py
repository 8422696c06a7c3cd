"""Fine-tuned directories: PyTorch parity, round trips, label names."""

import json
import sys

import numpy as np
import pytest
import safetensors.numpy

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import (
    SequenceClassifier,
    SpanClassifier,
    TokenClassifier,
    initial_parameters,
)
from etd_tf.evaluation.finetuned import (
    load_finetuned,
    match_labels,
    save_finetuned,
)
from etd_tf.extraction import extract, initial_student, plan_extraction
from etd_tf.modeling.reading import Reading
from tests.helpers import random_batch, tiny_checkpoint, tiny_config, tiny_tokenizer

NAMES = ("entailment", "neutral", "contradiction")


def fresh(model, seed=0):
    generator = np.random.default_rng(seed)
    values = model.get_parameters().items()
    model.set_parameters(
        {n: generator.normal(n.endswith("gamma"), 0.2, v.shape).astype("f4") for n, v in values}
    )
    return model


def classifier(num_labels=3, **changes):
    return fresh(SequenceClassifier(tiny_config(**changes), num_labels))


def torch_logits(model, batch):
    torch = pytest.importorskip("torch")
    inputs = {
        "input_ids": torch.tensor(batch["token_ids"]).long(),
        "token_type_ids": torch.tensor(batch["segment_ids"]).long(),
        "attention_mask": torch.tensor(batch["padding_mask"]).long(),
    }
    with torch.no_grad():
        return model.eval()(**inputs)


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new"])
def test_pytorch_classifies_alike(tmp_path, hidden_act):
    transformers = pytest.importorskip("transformers")
    model = classifier(hidden_act=hidden_act, layer_norm_epsilon=1e-5)
    save_finetuned(model, tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=NAMES)
    theirs, info = transformers.BertForSequenceClassification.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert theirs.config.id2label == dict(enumerate(NAMES))
    batch = random_batch(model.config)
    expected = torch_logits(theirs, batch).logits.numpy()
    assert np.abs(np.asarray(model(batch)["logits"]) - expected).max() <= 2e-5
    auto = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    assert type(auto).__name__ == "BertForSequenceClassification"


TAGS = ("O", "B-LOC", "I-LOC")


def test_pytorch_tags_alike(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = fresh(TokenClassifier(tiny_config(), len(TAGS)))
    save_finetuned(model, tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=TAGS, task="tag")
    theirs, info = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert type(theirs).__name__ == "BertForTokenClassification"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert theirs.config.id2label == dict(enumerate(TAGS))
    assert theirs.config.label2id == {name: index for index, name in enumerate(TAGS)}
    batch = random_batch(model.config)
    expected = torch_logits(theirs, batch).logits.numpy()
    difference = np.abs(np.asarray(model(batch)["logits"]) - expected)
    assert difference[batch["padding_mask"] == 1].max() <= 2e-5


@pytest.mark.parametrize("family", ["Bert", "Roberta", "XLMRoberta", "Camembert", "DistilBert"])
def test_all_families_tag_like_pytorch(family, tmp_path):
    settings = {"type_vocab_size": 2, "pad_token_id": 0} if family == "Bert" else {}
    theirs = theirs_of(family, "TokenClassification", id2label=dict(enumerate(TAGS)), **settings)
    theirs.save_pretrained(tmp_path / "m")
    loaded = load_finetuned(tmp_path / "m")
    assert (loaded.label_names, loaded.model.head_name) == (TAGS, "token_classifier")
    batch = random_batch(loaded.model.config, length=9)
    expected = their_outputs(theirs, {**batch, "segment_ids": 0}).logits.numpy()
    batch["segment_ids"] = np.zeros_like(batch["segment_ids"])
    difference = np.abs(np.asarray(loaded.model(batch)["logits"]) - expected)
    assert np.abs(expected).max() > 0.1
    assert difference[batch["padding_mask"] == 1].max() <= 2e-5
    save_checkpoint(loaded.checkpoint, tmp_path / "ours")
    again = load_finetuned(tmp_path / "ours").model(batch)["logits"]
    np.testing.assert_array_equal(again, loaded.model(batch)["logits"])
    with pytest.raises(InputError, match=r"called token_classifier; glue/sst2 needs classifier"):
        loaded.check_head("classifier", "glue/sst2")


def test_pytorch_answers_alike(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = fresh(SpanClassifier(tiny_config()))
    save_finetuned(model, tmp_path / "m", tokenizer=tiny_tokenizer(), task="squad/v1.1")
    theirs, info = transformers.BertForQuestionAnswering.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = random_batch(model.config)
    outputs = torch_logits(theirs, batch)
    real = batch["padding_mask"] == 1
    for name, value in model(batch).items():
        difference = np.abs(np.asarray(value) - outputs[name].numpy())[real]
        assert difference.max() <= 2e-5, name


def theirs_of(family, task, **settings):
    """A random model of Transformers with odd sizes."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch").manual_seed(1)
    names = ("dim", "n_layers", "n_heads", "hidden_dim")
    if family != "DistilBert":
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        settings = {"pad_token_id": 1, "type_vocab_size": 1, **settings}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=83,
        max_position_embeddings=37,
        initializer_range=0.3,
        **dict(zip(names, (15, 2, 3, 21), strict=True)),
        **settings,
    )
    return getattr(transformers, f"{family}For{task}")(config)


def their_outputs(model, batch):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model.eval()(
            input_ids=torch.tensor(batch["token_ids"]).long(),
            attention_mask=torch.tensor(batch["padding_mask"]).long(),
        )


@pytest.mark.parametrize("family", ["Roberta", "XLMRoberta", "Camembert"])
@pytest.mark.parametrize("unread_pooler", [False, True])
def test_roberta_classifies_like_pytorch(family, unread_pooler, tmp_path):
    theirs = theirs_of(family, "SequenceClassification", id2label=dict(enumerate(NAMES)))
    theirs.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    if unread_pooler:  # as in files from before 2020
        state = safetensors.numpy.load_file(file)
        prefix = "roberta.pooler.dense"
        state |= {f"{prefix}.weight": np.ones((15, 15), "f4"), f"{prefix}.bias": np.ones(15, "f4")}
        safetensors.numpy.save_file(state, file)
    loaded = load_finetuned(tmp_path / "m")
    assert loaded.label_names == NAMES
    batch = random_batch(loaded.model.config, length=9)
    expected = their_outputs(theirs, batch).logits.numpy()
    assert np.abs(expected).max() > 0.1
    assert np.abs(np.asarray(loaded.model(batch)["logits"]) - expected).max() <= 2e-5
    save_checkpoint(loaded.checkpoint, tmp_path / "ours")
    again = load_finetuned(tmp_path / "ours").model(batch)["logits"]
    np.testing.assert_array_equal(again, loaded.model(batch)["logits"])


@pytest.mark.parametrize("num_labels", [1, 3])
def test_distilbert_classifies_like_pytorch_after_training_too(num_labels, tmp_path, caplog):
    transformers = pytest.importorskip("transformers")
    names = NAMES if num_labels == 3 else ("score",)
    theirs = theirs_of("DistilBert", "SequenceClassification", id2label=dict(enumerate(names)))
    theirs.save_pretrained(tmp_path / "m")
    loaded = load_finetuned(tmp_path / "m")
    assert "not used" not in caplog.text
    assert loaded.label_names == (NAMES if num_labels == 3 else ())
    assert not loaded.checkpoint.has_pooler  # its layer is the head's, no encoder's
    model = loaded.model
    batch = random_batch(model.config, length=9)
    expected = their_outputs(theirs, batch).logits.numpy()
    assert np.abs(expected).max() > 0.1
    assert np.abs(np.asarray(model(batch)["logits"]) - expected).max() <= 2e-5
    again = type(model).from_config(model.get_config())
    again.set_parameters(model.get_parameters())
    np.testing.assert_array_equal(again(batch)["logits"], model(batch)["logits"])
    fresh(model)  # as training would, it gives the one segment a vector
    assert np.abs(model.get_parameters()["embeddings.segment"]).max() > 0.1
    save_finetuned(model, tmp_path / "ours", tokenizer=None, label_names=loaded.label_names)
    back, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert type(back).__name__ == "DistilBertForSequenceClassification"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = np.asarray(model(batch)["logits"])
    assert np.abs(their_outputs(back, batch).logits.numpy() - ours).max() <= 2e-5
    assert np.abs(load_finetuned(tmp_path / "ours").model(batch)["logits"] - ours).max() <= 2e-5


def test_a_hidden_layer_is_kept_in_training_and_left_behind_in_extraction(tmp_path):
    theirs = theirs_of("DistilBert", "SequenceClassification")
    theirs.save_pretrained(tmp_path / "m")
    checkpoint = load_checkpoint(tmp_path / "m")
    model = SequenceClassifier.of_checkpoint(checkpoint, 4)
    start = initial_parameters(checkpoint, model, 0)
    state = {name: value.detach().numpy() for name, value in theirs.state_dict().items()}
    np.testing.assert_array_equal(start["head.hidden.kernel"], state["pre_classifier.weight"].T)
    assert start["head.kernel"].shape == (15, 4)
    model.set_parameters(start)
    smaller = checkpoint.config.replace(num_layers=1)
    student = extract(checkpoint, plan_extraction(checkpoint.config, smaller, seed=0))
    assert student.task_head is None
    assert not student.has_pooler
    with pytest.raises(InputError, match="knows no segments; the model has 2"):
        save_finetuned(
            SequenceClassifier(tiny_config(), 3, hidden_act="relu"), tmp_path / "x", tokenizer=None
        )


@pytest.mark.parametrize("family", ["Roberta", "DistilBert"])
def test_other_families_answer_like_pytorch(family, tmp_path):
    theirs = theirs_of(family, "QuestionAnswering")
    theirs.save_pretrained(tmp_path / "m")
    loaded = load_finetuned(tmp_path / "m")
    batch = random_batch(loaded.model.config, length=9)
    real = batch["padding_mask"] == 1
    expected = their_outputs(theirs, batch)
    for name, value in loaded.model(batch).items():
        assert np.abs(np.asarray(value) - expected[name].numpy())[real].max() <= 2e-5, name


@pytest.mark.parametrize(
    ("family", "task", "settings"),
    [
        ("DistilBert", "MultipleChoice", {}),
        ("DistilBert", "SequenceClassification", {"problem_type": "multi_label_classification"}),
        ("Bert", "MultipleChoice", {}),
        ("Bert", "SequenceClassification", {"problem_type": "multi_label_classification"}),
    ],
)
def test_heads_that_are_not_read_are_named(family, task, settings, tmp_path, caplog):
    theirs_of(family, task, **settings).save_pretrained(tmp_path / "m")
    assert load_checkpoint(tmp_path / "m").task_head is None
    assert f"the head of {family}For{task} is not read" in caplog.text
    with pytest.raises(InputError, match="or its head is of a kind that is not read"):
        load_finetuned(tmp_path / "m")


@pytest.mark.parametrize("kind", ["classes", "score", "span", "tags"])
def test_round_trip(tmp_path, caplog, kind):
    model = {
        "classes": classifier,
        "score": lambda: classifier(1),
        "span": lambda: fresh(SpanClassifier(tiny_config())),
        "tags": lambda: fresh(TokenClassifier(tiny_config(), 3)),
    }[kind]()
    names = NAMES if kind in ("classes", "tags") else ()
    save_finetuned(model, tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=names)
    loaded = load_finetuned(tmp_path / "m")
    assert "not used" not in caplog.text
    assert loaded.label_names == names
    assert loaded.checkpoint.tokenizer.fingerprint() == tiny_tokenizer().fingerprint()
    for name, value in model.get_parameters().items():
        np.testing.assert_array_equal(loaded.model.get_parameters()[name], value, err_msg=name)
    files = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "m").iterdir()}
    assert set(files.values()) == {"0o644"}
    assert {"vocab.txt", "tokenizer_config.json"} <= set(files)
    values = json.loads((tmp_path / "m" / "config.json").read_text())
    problem = {"classes": "single_label_classification", "score": "regression"}
    assert values.get("problem_type") == problem.get(kind)


@pytest.mark.parametrize(
    "reading", [Reading("mean"), Reading("first", "twin"), Reading("pooled", "twin")]
)
def test_heads_that_transformers_lacks_are_kept_and_not_taken_for_others(tmp_path, caplog, reading):
    model = fresh(SequenceClassifier(tiny_config(), 3, reading=reading))
    with caplog.at_level("INFO", logger="absl"):
        save_finetuned(model, tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=NAMES)
    assert "No class of Transformers has this head" in caplog.text
    assert reading.describe() in caplog.text
    loaded = load_finetuned(tmp_path / "m")
    assert loaded.model.reading == loaded.checkpoint.task_head.reading == reading
    assert loaded.label_names == NAMES
    batch = random_batch(model.config)
    np.testing.assert_array_equal(loaded.model(batch)["logits"], model(batch)["logits"])
    values = json.loads((tmp_path / "m" / "config.json").read_text())
    assert values["architectures"] == ["BertModel"]
    assert not {"classifier.weight", "classifier.bias"} & set(
        safetensors.numpy.load_file(tmp_path / "m" / "model.safetensors")
    )
    again = type(model).from_config(model.get_config())
    assert again.reading == reading


def test_damage_of_what_a_head_reads_is_named(tmp_path):
    model = SequenceClassifier(tiny_config(), 3, reading=Reading("mean"))
    save_finetuned(model, tmp_path / "m", tokenizer=None, label_names=NAMES)
    config = tmp_path / "m" / "config.json"
    values = json.loads(config.read_text())
    for said, message in (
        ({"pool": "max"}, "pool='max' is unknown"),
        ({"pol": "mean"}, "expected pool and pairs"),
        ("mean", "expected pool and pairs"),
    ):
        config.write_text(json.dumps({**values, "etd_tf_head": said}))
        with pytest.raises(InputError, match=message):
            load_finetuned(tmp_path / "m")


def test_directories_that_are_not_finetuned_are_refused(tmp_path):
    save_checkpoint(tiny_checkpoint(), tmp_path / "m")
    with pytest.raises(InputError, match=r"is not fine-tuned, or .* Leave out finetune=False"):
        load_finetuned(tmp_path / "m")
    with pytest.raises(InputError, match=r"does not exist"):
        load_finetuned(tmp_path / "nowhere")


def test_heads_of_other_shapes_and_missing_weights_are_refused(tmp_path, caplog):
    save_finetuned(classifier(), tmp_path / "m", tokenizer=None, label_names=NAMES)
    path = tmp_path / "m" / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    wide = np.zeros((3, 16), np.float32)
    safetensors.numpy.save_file({**tensors, "classifier.weight": wide}, path)
    with pytest.raises(InputError, match=r"of a kind that is not read. .* \[C, H\], one label"):
        load_finetuned(tmp_path / "m")
    kept = {name: value for name, value in tensors.items() if "pooler" not in name}
    safetensors.numpy.save_file(kept, path)
    with pytest.raises(InputError, match=r"of a kind that is not read. .* \[C, H\], one label"):
        load_finetuned(tmp_path / "m")
    assert not load_checkpoint(tmp_path / "m").has_pooler  # as a teacher it still serves
    assert "classifier.bias, classifier.weight" in caplog.text


def test_label_names_must_be_there_and_fit(tmp_path):
    with pytest.raises(InputError, match=r"2 label names for 3 classes"):
        save_finetuned(classifier(), tmp_path / "m", tokenizer=None, label_names=NAMES[:2])
    save_finetuned(classifier(), tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=NAMES)
    path = tmp_path / "m" / "config.json"
    values = json.loads(path.read_text())
    values["id2label"] = {"0": "a"}
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"no id2label with the 3 classes.*Add it"):
        load_finetuned(tmp_path / "m")


@pytest.mark.parametrize("kind", ["classes", "span"])
def test_a_fine_tuned_model_is_a_checkpoint(tmp_path, kind):
    model = classifier() if kind == "classes" else fresh(SpanClassifier(tiny_config()))
    names = NAMES if kind == "classes" else ()
    save_finetuned(
        model, tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=names, task="glue/x"
    )
    checkpoint = load_checkpoint(tmp_path / "m")
    head = checkpoint.task_head
    assert (head.name, head.label_names, head.task) == (model.head_name, names, "glue/x")
    bare = checkpoint.replace(task_head=None)
    assert checkpoint.fingerprint() == bare.fingerprint()
    assert checkpoint.num_parameters() == bare.num_parameters()
    save_checkpoint(checkpoint, tmp_path / "again")
    for one in sorted((tmp_path / "m").iterdir()):
        assert one.read_bytes() == (tmp_path / "again" / one.name).read_bytes(), one.name
    report = save_checkpoint(checkpoint, tmp_path / "google", format="google")
    assert f"no place for the head {model.head_name}" in " ".join(report.notes)
    assert load_checkpoint(tmp_path / "google").task_head is None


def test_a_student_has_no_head_and_says_so(tmp_path, caplog):
    save_finetuned(classifier(), tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=NAMES)
    teacher = load_checkpoint(tmp_path / "m")
    plan = plan_extraction(teacher.config, tiny_config(num_layers=2), seed=0)
    assert extract(teacher, plan).task_head is None
    assert "the fine-tuned head classifier stays behind" in caplog.text
    caplog.clear()
    assert initial_student(teacher, tiny_config(num_layers=2), seed=0).task_head is None
    assert "the fine-tuned head classifier stays behind" in caplog.text


def test_existing_directories_are_kept(tmp_path):
    save_finetuned(classifier(), tmp_path / "m", tokenizer=None, label_names=NAMES)
    with pytest.raises(InputError, match="pass overwrite=True"):
        save_finetuned(classifier(), tmp_path / "m", tokenizer=None, label_names=NAMES)
    save_finetuned(classifier(), tmp_path / "m", tokenizer=None, label_names=NAMES, overwrite=True)


def test_labels_are_matched_by_name():
    order = match_labels(("Contradiction", "entailment", "NEUTRAL"), NAMES)
    assert order == [1, 2, 0]
    assert match_labels((), ()) == []
    with pytest.raises(InputError, match=r"labels are LABEL_0, LABEL_1, LABEL_2; the task's are"):
        match_labels(("LABEL_0", "LABEL_1", "LABEL_2"), NAMES)


def test_heads_are_matched_with_tasks(tmp_path):
    save_finetuned(classifier(), tmp_path / "m", tokenizer=tiny_tokenizer(), label_names=NAMES)
    loaded = load_finetuned(tmp_path / "m")
    loaded.check_head("classifier", "glue/mnli")
    with pytest.raises(InputError, match=r"squad/v1.1 needs qa_outputs"):
        loaded.check_head("qa_outputs", "squad/v1.1")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
