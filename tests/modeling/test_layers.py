"""Tests of the encoder's building blocks."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.modeling.attention import SelfAttention
from etd_tf.modeling.layers import (
    Dense,
    Embeddings,
    LayerNorm,
    SeedStream,
    activation,
    dropout,
    linear,
)
from tests.helpers import relative_error, tiny_config
from tests.modeling import numpy_bert

RANDOM = np.random.default_rng(17)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 1, 3)])
def test_linear_keeps_the_leading_shape(lead):
    x = RANDOM.normal(size=(*lead, 5)).astype(np.float32)
    kernel, bias = RANDOM.normal(size=(5, 7)).astype(np.float32), RANDOM.normal(size=7)
    bias = bias.astype(np.float32)
    assert linear(x, kernel).shape == (*lead, 7)
    assert relative_error(linear(x, kernel, bias), x @ kernel + bias) < 1e-6
    assert relative_error(linear(x, kernel), x @ kernel) < 1e-6


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu"])
def test_activation_equals_its_formula(name):
    x = np.linspace(-6.0, 6.0, 241, dtype=np.float32)
    difference = np.asarray(activation(name)(x)) - numpy_bert.ACTIVATIONS[name](np.float64(x))
    assert np.abs(difference).max() < 2e-6


def test_exact_and_tanh_gelu_are_4_7e_4_apart():
    x = np.linspace(-6.0, 6.0, 24001, dtype=np.float32)
    gap = np.abs(np.asarray(activation("gelu")(x)) - np.asarray(activation("gelu_new")(x))).max()
    assert gap == pytest.approx(4.7e-4, rel=0.02)


def test_layer_norm_with_a_large_mean_and_a_large_epsilon():
    layer = LayerNorm(9, 0.5, name="norm")
    gamma, beta = RANDOM.normal(size=9), RANDOM.normal(size=9)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    x = 100.0 + RANDOM.normal(size=(2, 3, 9))
    assert relative_error(layer(x), numpy_bert.layer_norm(x, gamma, beta, 0.5)) < 1e-5


@pytest.mark.parametrize(
    ("policy", "output"), [("mixed_float16", "float32"), ("float16", "float16")]
)
def test_layer_norm_computes_in_float32_under_a_half_policy(policy, output):
    layer = LayerNorm(64, 1e-12, dtype=policy, name="norm")
    x = (300.0 * RANDOM.normal(size=(2, 64))).astype(np.float16)  # the squares exceed 65504
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == output
    expected = numpy_bert.layer_norm(np.float64(x), 1.0, 0.0, 1e-12)
    assert relative_error(y, expected) < 2e-3


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu"])
def test_training_activation_is_float32_inside(name):
    x = RANDOM.normal(size=(50,)).astype(np.float32)
    rounded = keras.ops.cast(x, "bfloat16")
    y = activation(name, training=True)(rounded)
    exact = activation(name)(keras.ops.cast(rounded, "float32"))
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    np.testing.assert_array_equal(y, keras.ops.cast(exact, "bfloat16"))


def test_dense_is_a_linear_map():
    layer = Dense(4, 3, name="dense")
    layer.bias.assign(RANDOM.normal(size=3))
    x = RANDOM.normal(size=(2, 5, 4)).astype(np.float32)
    expected = x @ np.asarray(layer.kernel) + np.asarray(layer.bias)
    assert relative_error(layer(x), expected) < 1e-6


def test_embeddings_sum_three_tables():
    config = tiny_config()
    layer = Embeddings(config)
    ids, segments = np.array([[5, 9, 9]]), np.array([[0, 1, 1]])
    token, position, segment = (
        np.float64(np.asarray(table)) for table in (layer.token, layer.position, layer.segment)
    )
    total = token[ids] + position[None, :3] + segment[segments]
    expected = numpy_bert.layer_norm(total, 1.0, 0.0, config.layer_norm_epsilon)
    assert relative_error(layer(ids, segments), expected) < 1e-5
    first = numpy_bert.layer_norm(
        token[ids] + position[None, :3] + segment[0], 1.0, 0.0, config.layer_norm_epsilon
    )
    assert relative_error(layer(ids, None), first) < 1e-5


def test_seed_stream_counts_up_without_variables():
    stream = SeedStream(np.array([5, 70], np.int32))
    drawn = [np.asarray(stream.next()).tolist() for _ in range(3)]
    assert drawn == [[5, 70], [5, 71], [5, 72]]
    assert not hasattr(stream, "state")


def test_dropout_keeps_the_mean_and_scales_what_is_left():
    x = np.ones((200, 100), np.float32)
    y = np.asarray(dropout(x, 0.25, SeedStream(np.array([1, 2], np.int32))))
    assert set(np.unique(y)) == {np.float32(0.0), np.float32(1.0 / 0.75)}
    assert y.mean() == pytest.approx(1.0, abs=0.02)
    assert dropout(x, 0.25, None) is x
    assert dropout(x, 0.0, SeedStream(np.array([1, 2], np.int32))) is x


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_keeps_shape_and_type(shape, dtype):
    x = keras.ops.ones(shape, dtype)
    found = dropout(x, 0.5, SeedStream(np.int32([1, 2])))
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    assert set(np.unique(keras.ops.convert_to_numpy(found).astype("float32"))) <= {0.0, 2.0}


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.9])
def test_every_part_of_a_dropout_mask_has_its_rate(rate):
    """Two elements share the bits of a word: neither half may be off, nor follow the other."""
    count = 1_000_001
    dropped = np.asarray(dropout(np.ones(count, "f"), rate, SeedStream(np.int32([1, 2])))) == 0
    halves = dropped[: count // 2], dropped[count // 2 + 1 :]
    tolerance = 5 * np.sqrt(rate * (1 - rate) / (count // 2))
    for half in halves:
        assert abs(half.mean() - rate) < tolerance
    assert abs(np.corrcoef(*halves)[0, 1]) < 5 / np.sqrt(count // 2)
    assert abs(np.corrcoef(dropped[1:], dropped[:-1])[0, 1]) < 5 / np.sqrt(count)


def test_the_gradient_passes_where_dropout_keeps():
    x = tf.Variable(np.linspace(1, 2, 60, dtype="f").reshape(3, 20))
    with tf.GradientTape() as tape:
        y = dropout(x.value(), 0.25, SeedStream(np.int32([1, 2])))
    np.testing.assert_allclose(tape.gradient(y, x), np.where(y.numpy() > 0, 4 / 3, 0), rtol=1e-6)
    np.testing.assert_allclose(y, np.where(y.numpy() > 0, 4 / 3 * x.numpy(), 0), rtol=1e-6)


def test_extreme_rates_keep_or_drop_everything():
    x, seed = np.ones(1000, "f"), np.int32([1, 2])
    np.testing.assert_array_equal(dropout(x, 1e-9, SeedStream(seed)), x)
    assert np.count_nonzero(dropout(x, 1 - 1e-9, SeedStream(seed))) <= 2


def test_attention_splits_heads_in_column_order():
    config = tiny_config()
    attention = SelfAttention(config)
    x = RANDOM.normal(size=(2, 4, 15)).astype(np.float32)
    queries, _, values = attention.project(x)
    kernel = np.asarray(attention.query.kernel)
    for head in range(3):
        columns = kernel[:, head * 5 : head * 5 + 5]
        assert relative_error(queries[:, head], x @ columns) < 1e-5
    assert relative_error(values[:, 2, :, 3], x @ np.asarray(attention.value.kernel)[:, 13]) < 1e-5


def test_attention_without_a_mask_attends_everywhere():
    attention = SelfAttention(tiny_config())
    x = RANDOM.normal(size=(2, 4, 15)).astype(np.float32)
    unmasked = attention(x, None).output
    zeros = attention(x, np.zeros((2, 1, 1, 4), np.float32)).output
    np.testing.assert_array_equal(unmasked, zeros)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
