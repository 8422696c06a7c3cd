"""Tests of the masked-LM head."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.modeling import MaskedLMHead
from tests.helpers import relative_error, tiny_checkpoint, tiny_config
from tests.modeling import numpy_bert

HIDDEN_STATES = np.random.default_rng(5).normal(size=(2, 5, 15)).astype(np.float32)


def oracle(config, parameters, hidden_states):
    w = {name: np.float64(value) for name, value in parameters.items()}
    x = hidden_states @ w["mlm.dense.kernel"] + w["mlm.dense.bias"]
    x = numpy_bert.layer_norm(
        numpy_bert.ACTIVATIONS[config.hidden_act](x),
        w["mlm.layer_norm.gamma"],
        w["mlm.layer_norm.beta"],
        config.layer_norm_epsilon,
    )
    return x @ w["embeddings.token"].T + w["mlm.output_bias"]


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-2])
def test_logits_equal_the_formula(hidden_act, epsilon):
    checkpoint = tiny_checkpoint(
        seed=3, mlm_head=True, hidden_act=hidden_act, layer_norm_epsilon=epsilon
    )
    logits = checkpoint.mlm_head(HIDDEN_STATES, checkpoint.encoder.embeddings.token)
    expected = oracle(checkpoint.config, checkpoint.parameters(), np.float64(HIDDEN_STATES))
    assert logits.shape == (2, 5, 86)
    assert relative_error(logits, expected) < 1e-5


def test_the_output_embedding_is_tied():
    checkpoint = tiny_checkpoint(mlm_head=True)
    head, token = checkpoint.mlm_head, checkpoint.encoder.embeddings.token
    assert [tuple(v.shape) for v in head.trainable_variables].count((86, 15)) == 0
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(head(HIDDEN_STATES, token)[..., 3] ** 2)
    gradient = np.asarray(tf.convert_to_tensor(tape.gradient(loss, token.value)))
    assert np.abs(gradient[3]).max() > 1e-3
    assert np.all(np.delete(gradient, 3, axis=0) == 0.0)


def test_masked_positions_alone_give_the_same_logits():
    checkpoint = tiny_checkpoint(mlm_head=True)
    head, token = checkpoint.mlm_head, checkpoint.encoder.embeddings.token
    everywhere = np.asarray(head(HIDDEN_STATES, token))
    assert relative_error(head(HIDDEN_STATES[:, [1, 4]], token), everywhere[:, [1, 4]]) < 1e-5


def test_logits_are_float32_under_a_half_policy():
    config = tiny_config()
    head = MaskedLMHead(config, dtype="mixed_bfloat16")
    token = np.random.default_rng(1).normal(size=(86, 15)).astype(np.float32)
    assert head(HIDDEN_STATES, token).dtype == tf.float32


def test_config_round_trip():
    head = MaskedLMHead(tiny_config(layer_norm_epsilon=1e-5), dtype="mixed_bfloat16")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert copy.config == head.config
    assert copy.dtype_policy.name == "mixed_bfloat16"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
