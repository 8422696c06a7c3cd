"""Tests of finding the variables that a loss depends on."""

import sys

import keras
import pytest
import tensorflow as tf

from etd_tf.training.dependence import find_dependent


@pytest.mark.parametrize("outer", ["eager", "graph"])
def test_only_variables_with_a_gradient_are_found(outer):
    read, rounded, unread = (keras.Variable([1.0, 2.0]) for _ in range(3))
    runs = []

    def loss(batch):
        runs.append(tf.executing_eagerly())
        return tf.reduce_sum(read * tf.cast(batch["x"], tf.float32) + tf.round(rounded))

    def find():
        specs = {"x": tf.TensorSpec([2], tf.int32)}
        strategy = tf.distribute.get_strategy()
        return find_dependent(loss, [read, rounded, unread], specs, strategy)

    found = []
    if outer == "eager":
        found.append(find())
    else:
        tf.function(lambda: found.append(find())).get_concrete_function()

    assert found[0] - {id(rounded)} == {id(read)}
    assert runs == [False]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
