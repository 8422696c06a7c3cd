"""SavedModels of fine-tuned models: text in, numbers of the model out."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.evaluation.classifiers import SequenceClassifier, SpanClassifier, TokenClassifier
from etd_tf.evaluation.serving import export_finetuned
from etd_tf.modeling.reading import Reading
from tests.helpers import random_batch, tiny_config, tiny_tokenizer

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


def test_saved_model_takes_text_and_gives_probabilities(tmp_path):
    pytest.importorskip("tensorflow_text")
    model, tokenizer = classifier(num_layers=1), tiny_tokenizer()
    version = export_finetuned(
        model,
        tmp_path / "served",
        tokenizer=tokenizer,
        label_names=NAMES,
        text_inputs=("premise", "hypothesis"),
        max_length=20,
    )
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    texts = {"premise": ["the cat sat", "a"], "hypothesis": ["the dog ran on", "b c"]}
    outputs = serve(**{name: tf.constant(value) for name, value in texts.items()})
    for row, pair in enumerate(zip(*texts.values(), strict=True)):
        encoding = tokenizer.backend.encode(*pair)
        batch = {
            "token_ids": np.asarray([encoding.ids]),
            "segment_ids": np.asarray([encoding.type_ids]),
        }
        logits = np.asarray(model(batch)["logits"])[0]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(outputs["probabilities"][row], expected, atol=1e-5)
        np.testing.assert_allclose(outputs["logits"][row], logits, atol=1e-5)
    assert (version / "assets.extra" / "labels.txt").read_text().split() == list(NAMES)


@pytest.mark.parametrize("pool", ["pooled", "mean"])
def test_saved_model_of_twins_reads_each_text_alone(tmp_path, pool):
    pytest.importorskip("tensorflow_text")
    reading, tokenizer = Reading(pool, "twin"), tiny_tokenizer()
    model = fresh(SequenceClassifier(tiny_config(num_layers=1), 3, reading=reading))
    version = export_finetuned(
        model,
        tmp_path / "served",
        tokenizer=tokenizer,
        label_names=NAMES,
        text_inputs=("text", "text_pair"),
        max_length=9,
    )
    loaded = tf.saved_model.load(str(version)).signatures
    texts = {"text": ["the cat sat", "a"], "text_pair": ["the dog ran on and on", "b c"]}
    outputs = loaded["serving_default"](**{k: tf.constant(v) for k, v in texts.items()})
    rows = [tokenizer.backend.encode(text).ids for part in texts.values() for text in part]
    width = max(map(len, rows))
    ids = np.asarray([row + [0] * (width - len(row)) for row in rows], "i4")
    mask = np.asarray([[1] * len(row) + [0] * (width - len(row)) for row in rows], "i4")
    batch = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": mask}
    logits = np.asarray(model(batch)["logits"])
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)
    halves = {k: v[:2, :6] for k, v in batch.items()} | {
        f"pair_{k}": v[2:] for k, v in batch.items()
    }
    served = loaded["serve_ids"](**{k: tf.constant(v) for k, v in halves.items()})
    np.testing.assert_allclose(served["logits"], logits, atol=1e-5)


def test_served_scores_are_one_number_an_example():
    model = classifier(1, num_layers=1)
    batch = random_batch(model.config)
    outputs = model.serve(batch)
    logits = np.asarray(model(batch)["logits"])
    np.testing.assert_array_equal(outputs["score"], logits[:, 0])


def test_saved_model_gives_probabilities_of_each_token(tmp_path):
    pytest.importorskip("tensorflow_text")
    model = fresh(TokenClassifier(tiny_config(num_layers=1), 3))
    options = {"tokenizer": tiny_tokenizer(), "label_names": NAMES, "max_length": 20}
    version = export_finetuned(model, tmp_path / "tags", **options)
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    outputs = serve(text=tf.constant(["the cat sat", "a"]))
    ids = np.asarray([tiny_tokenizer().backend.encode("the cat sat").ids])
    assert outputs["token_ids"][0].numpy().tolist() == ids[0].tolist()
    assert outputs["padding_mask"].numpy().sum(1).tolist() == [5, 3]
    logits = np.asarray(model({"token_ids": ids, "segment_ids": np.zeros_like(ids)})["logits"])[0]
    np.testing.assert_allclose(outputs["logits"][0], logits, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(outputs["probabilities"][0], expected, atol=1e-5)
    assert (version / "assets.extra" / "labels.txt").read_text().split() == list(NAMES)


def test_saved_model_takes_question_and_context(tmp_path):
    pytest.importorskip("tensorflow_text")
    span = fresh(SpanClassifier(tiny_config(num_layers=1)))
    version = export_finetuned(
        span,
        tmp_path / "span",
        tokenizer=tiny_tokenizer(),
        text_inputs=("question", "context"),
        max_length=20,
    )
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    outputs = serve(question=tf.constant(["cat?"]), context=tf.constant(["the cat sat"]))
    assert set(outputs) == {"start_logits", "end_logits", "token_ids", "padding_mask"}
    ids = tiny_tokenizer().backend.encode("cat?", "the cat sat").ids
    assert outputs["token_ids"][0].numpy().tolist() == ids


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
