"""`write_serving_model` serves any function: here a classifier and a span finder."""

import dataclasses
import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import EtdError, InputError
from etd_tf.export import ServingSpec, write_serving_model
from etd_tf.export.serving import largest_error, require_tensorflow
from tests.export.numbers import encode
from tests.helpers import relative_error, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(num_layers=1)


@pytest.fixture(scope="module")
def kernel():
    return tf.Variable(np.random.default_rng(0).normal(size=(15, 3)).astype(np.float32))


@pytest.fixture
def spec(checkpoint, kernel):
    return ServingSpec(
        variables=[*checkpoint.encoder.variables, kernel],
        max_length=12,
        max_positions=23,
        tokenizer=checkpoint.tokenizer,
    )


@pytest.fixture
def classify(checkpoint, kernel):
    def predict(inputs):
        logits = checkpoint.encoder(inputs)["pooled_output"] @ kernel
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    return predict


def load(model):
    return tf.saved_model.load(str(model.path)).signatures


def test_text_classifier(checkpoint, kernel, spec, classify, tmp_path):
    signatures = load(write_serving_model(tmp_path / "classifier", classify, spec))
    texts = ["the cat sat", "dog", ""]
    outputs = signatures["serving_default"](text=tf.constant(texts))
    assert set(outputs) == {"logits", "probabilities"}
    pooled = np.asarray(
        checkpoint.encoder(encode(checkpoint, texts, max_length=12))["pooled_output"]
    )
    logits = pooled @ kernel.numpy()
    assert relative_error(outputs["logits"], logits) < 1e-5
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    assert relative_error(outputs["probabilities"], expected) < 1e-5


def test_text_pairs_and_extra_signatures(checkpoint, spec, classify, tmp_path):
    def spans(inputs):
        hidden = checkpoint.encoder(inputs)["sequence_output"]
        return {"start_logits": hidden[..., 0], "end_logits": hidden[..., 1]}

    pair = dataclasses.replace(
        spec,
        text_inputs=("question", "context"),
        return_tokens=True,
        extra={"classify": classify},
    )
    signatures = load(write_serving_model(tmp_path / "reader", spans, pair))
    assert set(signatures) == {"serving_default", "serve_ids", "classify"}
    outputs = signatures["serving_default"](
        question=tf.constant(["the cat"]), context=tf.constant(["on the mat"])
    )
    assert set(outputs) == {"start_logits", "end_logits", "token_ids", "padding_mask"}
    tokenizer = checkpoint.tokenizer
    first, second = tokenizer.encode_batch(["the cat", "on the mat"])
    ids = [tokenizer.cls_id, *first, tokenizer.sep_id, *second, tokenizer.sep_id]
    np.testing.assert_array_equal(outputs["token_ids"], [ids])
    batch = {
        "token_ids": np.array([ids], np.int32),
        "segment_ids": np.array([[0] * (len(first) + 2) + [1] * (len(second) + 1)], np.int32),
        "padding_mask": np.ones((1, len(ids)), np.int32),
    }
    assert relative_error(outputs["start_logits"], spans(batch)["start_logits"]) < 1e-5


def test_a_function_that_does_not_repeat_itself_is_not_written(spec, checkpoint, tmp_path):
    calls = []

    def drifting(inputs):
        calls.append(1)
        return {"value": checkpoint.encoder(inputs)["pooled_output"] + len(calls)}

    with pytest.raises(EtdError, match="value check failed: outputs differ from the model by"):
        write_serving_model(tmp_path / "model", drifting, spec)
    assert not list(tmp_path.iterdir())


def test_refusals(spec):
    with pytest.raises(InputError, match="from 5 to 23"):
        dataclasses.replace(spec, max_length=30)
    with pytest.raises(InputError, match="one or two text inputs"):
        dataclasses.replace(spec, text_inputs=())
    with pytest.raises(InputError, match="warm-up text"):
        dataclasses.replace(spec, warmup_texts=())


def test_other_keras_backends_are_refused(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(InputError, match="KERAS_BACKEND=tensorflow"):
        require_tensorflow()


def test_largest_error():
    assert largest_error([1.0, 2.0], [1.0, 2.5]) == pytest.approx(0.5 / 2.5)
    assert largest_error([0.1], [0.2]) == pytest.approx(0.1)  # relative to 1 at least
    assert largest_error([np.nan], [1.0]) == np.inf
    assert largest_error([1.0], [1.0, 1.0]) == np.inf
    assert largest_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
