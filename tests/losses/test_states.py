"""Tests of the loss on last states."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.losses import Features, States, states_loss
from tests.helpers import numerical_gradient, relative_error
from tests.losses import reference

MASK = reference.random_mask([4, 1, 0], 4)


def _states(seed, size=6):
    return np.random.default_rng(seed).normal(size=(3, 4, size))


def _formula(student, teacher):
    # a row of nothing but padding adds 0
    return 2 / 3 * reference.states_loss(student[:2], teacher[:2], MASK[:2])


def test_it_is_one_minus_the_mean_cosine_of_real_tokens():
    found = float(states_loss(_states(0), _states(1), MASK))
    assert found == pytest.approx(_formula(_states(0), _states(1)), rel=1e-5)
    filled = np.where(MASK[:, :, None] > 0, _states(0), 99.0)
    assert float(states_loss(filled, _states(1), MASK)) == pytest.approx(found, rel=1e-6)
    assert float(states_loss(_states(0), 4.0 * _states(0), MASK)) == 0.0


def test_the_gradient_is_that_of_the_formula_and_reaches_the_student_alone():
    student, teacher = tf.constant(_states(0)), tf.constant(_states(1))
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        value = states_loss(student, teacher, MASK)
    ours, theirs = tape.gradient(value, [student, teacher])
    assert theirs is None
    expected = numerical_gradient(lambda x: _formula(x, _states(1)), _states(0))
    assert relative_error(ours.numpy(), expected) < 1e-5


def test_narrower_states_go_through_the_map():
    mask = reference.random_mask([4, 1], 4)
    student, teacher = (reference.random_trace(i, mask, size=i + 2) for i in (0, 1))
    kernel = np.random.default_rng(2).normal(size=(6, 9))
    layer = keras.layers.Dense(9)
    layer.build((None, 6))
    layer.set_weights([kernel, np.ones(9)])
    terms = States().compute_terms(Features(teacher), Features(student), {"map": layer})
    assert terms.keys() == States().term_weights.keys()
    mapped = student.sequence_output @ kernel + 1
    expected = reference.states_loss(mapped, teacher.sequence_output, mask)
    assert float(terms["states_loss"]) == pytest.approx(expected, rel=1e-4)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
