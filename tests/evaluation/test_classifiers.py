"""Task models: against NumPy on top of the encoder, dropout, saving."""

import sys

import keras
import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import (
    SequenceClassifier,
    SpanClassifier,
    TokenClassifier,
    initial_parameters,
)
from etd_tf.evaluation.task_losses import IGNORED, token_loss
from tests.helpers import random_batch, tiny_checkpoint, tiny_config

CLASSES = 4


def fresh(model, seed=0):
    """The model with random weights everywhere, the head included."""
    generator = np.random.default_rng(seed)
    values = model.get_parameters().items()
    model.set_parameters(
        {n: generator.normal(n.endswith("gamma"), 0.2, v.shape).astype("f4") for n, v in values}
    )
    return model


def test_sequence_logits_are_a_dense_layer_on_the_pooled_output():
    model = fresh(SequenceClassifier(tiny_config(), CLASSES))
    batch = random_batch(tiny_config())
    pooled = np.asarray(model.encoder(batch)["pooled_output"])
    weights = model.get_parameters()
    expected = pooled @ weights["head.kernel"] + weights["head.bias"]
    logits = model(batch)["logits"]
    assert tuple(logits.shape) == (4, CLASSES)
    np.testing.assert_allclose(np.asarray(logits), expected, atol=1e-5)


def test_span_logits_are_a_dense_layer_on_every_token():
    model = fresh(SpanClassifier(tiny_config()))
    assert model.encoder.pooler is None
    batch = random_batch(tiny_config())
    states = np.asarray(model.encoder(batch)["sequence_output"])
    weights = model.get_parameters()
    expected = states @ weights["head.kernel"] + weights["head.bias"]
    outputs = model(batch)
    np.testing.assert_allclose(np.asarray(outputs["start_logits"]), expected[..., 0], atol=1e-5)
    np.testing.assert_allclose(np.asarray(outputs["end_logits"]), expected[..., 1], atol=1e-5)


def test_dropout_follows_its_seed():
    model = fresh(SequenceClassifier(tiny_config(), CLASSES))
    batch = random_batch(tiny_config())

    def run(seed):
        outputs = model(batch, training=True, dropout_seed=np.asarray(seed, np.int32))
        return np.asarray(outputs["logits"])

    np.testing.assert_array_equal(run([0, 0]), run([0, 0]))
    assert np.abs(run([0, 0]) - run([0, 4096])).max() > 1e-3
    assert np.abs(run([0, 0]) - run([1, 0])).max() > 1e-3
    unseeded = np.asarray(model(batch, training=True)["logits"])
    assert np.abs(unseeded - np.asarray(model(batch)["logits"])).max() > 1e-3


def test_head_dropout_reaches_the_pooled_output():
    """With dropout in the head alone, every channel is either dropped or scaled up."""
    config = tiny_config(attention_dropout=0.0, hidden_dropout=0.5)
    model = fresh(SequenceClassifier(config, config.hidden_size))
    weights = model.get_parameters()
    weights["head.kernel"] = np.eye(config.hidden_size, dtype=np.float32)
    weights["head.bias"] = np.zeros(config.hidden_size, np.float32)
    model.set_parameters(weights)
    seed = np.asarray([3, 0], np.int32)
    batch = random_batch(config)
    logits = np.asarray(model(batch, training=True, dropout_seed=seed)["logits"])
    trace = model.encoder.trace(batch, training=True, dropout_seed=seed)
    ratio = logits / np.asarray(trace.pooled_output)
    assert set(np.round(ratio, 3).ravel().tolist()) == {0.0, 2.0}


def test_token_logits_are_a_dense_layer_on_every_token_behind_dropout():
    config = tiny_config(attention_dropout=0.0, hidden_dropout=0.5)
    model = fresh(TokenClassifier(config, config.hidden_size))
    batch = random_batch(config)
    states = np.asarray(model.encoder(batch)["sequence_output"])
    weights = model.get_parameters()
    expected = states @ weights["head.kernel"] + weights["head.bias"]
    np.testing.assert_allclose(np.asarray(model(batch)["logits"]), expected, atol=1e-5)
    weights["head.kernel"] = np.eye(config.hidden_size, dtype=np.float32)
    weights["head.bias"] = np.zeros(config.hidden_size, np.float32)
    model.set_parameters(weights)
    seed = np.asarray([3, 0], np.int32)
    logits = np.asarray(model(batch, training=True, dropout_seed=seed)["logits"])
    trace = model.encoder.trace(batch, training=True, dropout_seed=seed)
    ratio = logits / np.asarray(trace.sequence_output)
    assert set(np.round(ratio, 3).ravel().tolist()) == {0.0, 2.0}


def test_the_loss_of_tokens_is_pytorchs():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    labels = np.asarray([[IGNORED, 2, 0, IGNORED, 1], [IGNORED, 1, IGNORED, IGNORED, 1]])
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).reshape(-1, 3), torch.from_numpy(labels[:, :4]).reshape(-1)
    )
    loss = token_loss({"logits": logits}, {"labels": labels})
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    nothing = token_loss({"logits": logits}, {"labels": np.full((2, 4), IGNORED)})
    assert float(nothing) == 0.0


def test_initial_parameters_keep_the_encoder_and_make_a_head():
    checkpoint = tiny_checkpoint(mlm_head=True)
    model = SequenceClassifier(checkpoint.config, CLASSES)
    parameters = initial_parameters(checkpoint, model, seed=5)
    for name, value in checkpoint.parameters().items():
        if not name.startswith("mlm."):
            np.testing.assert_array_equal(parameters[name], value)
    assert 0.0 < parameters["head.kernel"].std() < 0.05
    assert not parameters["head.bias"].any()
    again = initial_parameters(checkpoint, model, seed=5)
    np.testing.assert_array_equal(again["head.kernel"], parameters["head.kernel"])
    other = initial_parameters(checkpoint, model, seed=6)
    assert (other["head.kernel"] != parameters["head.kernel"]).any()


def test_a_missing_pooler_is_made_and_an_unused_one_left_out():
    without = tiny_checkpoint(pooler=False)
    model = SequenceClassifier(without.config, CLASSES)
    parameters = initial_parameters(without, model, seed=0)
    assert 0.0 < parameters["pooler.kernel"].std() < 0.05
    assert not parameters["pooler.bias"].any()
    model.set_parameters(parameters)
    span = SpanClassifier(without.config)
    assert "pooler.kernel" not in initial_parameters(tiny_checkpoint(), span, seed=0)


def test_wrong_weights_are_refused():
    model = SpanClassifier(tiny_config())
    parameters = model.get_parameters()
    del parameters["embeddings.token"]
    with pytest.raises(InputError, match=r"embeddings.token is missing"):
        model.set_parameters(parameters)


@pytest.mark.parametrize(
    "model",
    [
        SequenceClassifier(tiny_config(), CLASSES),
        SpanClassifier(tiny_config()),
        TokenClassifier(tiny_config(), CLASSES),
    ],
    ids=["sequence", "span", "token"],
)
def test_keras_saves_and_loads_task_models(tmp_path, model):
    fresh(model)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    batch = random_batch(tiny_config())
    for name, value in model(batch).items():
        np.testing.assert_allclose(np.asarray(loaded(batch)[name]), np.asarray(value), atol=1e-6)


def test_low_precision_logits_are_float32():
    model = SequenceClassifier(tiny_config(), CLASSES, dtype="mixed_bfloat16")
    logits = model(random_batch(tiny_config()))["logits"]
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
