"""Tests of the fused AdamW against Keras' own."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.training.optimization import FusedAdamW

_SETTINGS = {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-5}
_SHAPES = {"kernel": (5, 3), "bias": (3,)}


def _trained(make, *, weight_decay, jit_compile, dtype="float32", steps=5):
    """Weights after some steps with random gradients."""
    random = np.random.default_rng(0)
    variables = [
        keras.Variable(random.normal(size=shape), name=name, dtype=dtype)
        for name, shape in _SHAPES.items()
    ]
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, steps, 0.01)
    optimizer = make(schedule, weight_decay=weight_decay, **_SETTINGS)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(variables)
    step = tf.function(lambda g: optimizer.apply(g, variables), jit_compile=jit_compile)
    for _ in range(steps):
        step([tf.constant(random.normal(size=v.shape), dtype) for v in variables])
    return [np.asarray(v) for v in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_updates_equal_those_of_keras(weight_decay, jit_compile):
    settings = {"weight_decay": weight_decay, "jit_compile": jit_compile}
    ours = _trained(FusedAdamW, **settings)
    theirs = _trained(keras.optimizers.AdamW, **settings)
    assert len(ours) == len(theirs) == 7  # weights, moments and the counter
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7)


def test_other_types_are_left_to_keras():
    settings = {"weight_decay": 0.3, "jit_compile": False, "dtype": "float64"}
    ours = _trained(FusedAdamW, **settings)
    theirs = _trained(keras.optimizers.AdamW, **settings)
    assert ours[0].dtype == np.float64
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_rows_of_an_embedding_that_got_no_gradient_move_on():
    table = keras.Variable(np.ones((4, 2)), name="embeddings", dtype="float32")
    optimizer = FusedAdamW(0.1, weight_decay=0.5)
    optimizer.build([table])
    optimizer.apply([tf.ones([4, 2])], [table])
    before = np.array(table)
    rows = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([1]), tf.constant([4, 2]))

    optimizer.apply([rows], [table])

    moved = before - np.array(table)
    assert (moved[[0, 2, 3]] > 0.05 * before[0]).all()  # by momentum and decay
    assert (moved[1] > moved[0]).all()


def test_it_is_saved_like_any_optimizer():
    optimizer = FusedAdamW(0.1, weight_decay=0.25)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, FusedAdamW)
    assert again.weight_decay == 0.25


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
