"""Tests of the loss on sentence vectors."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.losses import Embedding, Features, ModelSpec, embedding_loss
from etd_tf.modeling.pooling import Pooling
from tests.helpers import numerical_gradient, relative_error, tiny_config
from tests.losses import reference


def _vectors(seed, size=6):
    return np.random.default_rng(seed).normal(size=(4, size))


@pytest.mark.parametrize("dims", [(), (3,), (4, 2)])
def test_it_is_one_minus_the_mean_cosine(dims):
    expected = reference.embedding_loss(_vectors(0), _vectors(1), dims)

    found = embedding_loss(_vectors(0), _vectors(1), dims=dims)

    assert found.dtype == tf.float32
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_lengths_do_not_count_and_equal_vectors_have_loss_zero():
    assert float(embedding_loss(_vectors(0), _vectors(0), dims=(2,))) == 0.0
    assert float(embedding_loss(8.0 * _vectors(0), _vectors(0))) == 0.0
    assert float(embedding_loss(-_vectors(0), _vectors(0))) == pytest.approx(2.0, rel=1e-6)


def test_zeros_add_nothing_and_get_finite_gradients():
    real = np.array([[1.0], [1.0], [0.0], [1.0]])
    student, teacher = tf.constant(_vectors(0) * real), tf.constant(_vectors(1) * real)
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        value = embedding_loss(student, teacher)
    ours, theirs = tape.gradient(value, [student, teacher])
    assert theirs is None
    assert np.all(ours.numpy()[2] == 0.0)
    rows = [0, 1, 3]
    alone = reference.embedding_loss(_vectors(0)[rows], _vectors(1)[rows])
    assert float(value) == pytest.approx(0.75 * alone, rel=1e-5)


def test_the_gradient_is_that_of_the_formula():
    student = tf.constant(_vectors(0))
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = embedding_loss(student, _vectors(1), dims=(3,))
    expected = numerical_gradient(
        lambda x: reference.embedding_loss(x, _vectors(1), (3,)), _vectors(0)
    )
    assert relative_error(tape.gradient(value, student).numpy(), expected) < 1e-5


def test_the_loss_compares_vectors_in_the_teachers_space():
    teacher = Features(None, vectors=_vectors(1))
    student = Features(None, vectors=_vectors(2, 3), mapped=_vectors(0))
    expected = reference.embedding_loss(_vectors(0), _vectors(1), (2,))
    loss = Embedding(matryoshka=(2,))
    terms = loss.compute_terms(teacher, student, {})
    assert terms.keys() == loss.term_weights.keys()
    assert float(terms["vector_loss"]) == pytest.approx(expected, rel=1e-5)


def test_other_widths_and_parts_that_are_no_parts_are_refused():
    with pytest.raises(InputError, match="Map the student's to that width"):
        embedding_loss(_vectors(0, 3), _vectors(1))
    spec = ModelSpec(tiny_config(hidden_size=6, num_heads=2), pooling=Pooling(truncate_dim=4))
    Embedding(matryoshka=(3, 2)).validate(spec, spec)
    with pytest.raises(InputError, match="the teacher's sentence vectors have 4 numbers"):
        Embedding(matryoshka=(2, 4)).validate(spec, spec)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
