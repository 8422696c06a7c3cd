"""Tests of the loss on similarities in a batch."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.losses import Features, ModelSpec, Similarity, similarity_loss
from tests.helpers import numerical_gradient, relative_error, tiny_config
from tests.losses import reference

TEXTS = np.array([1, 1, 0, 1])


def _vectors(seed, size=6):
    return np.random.default_rng(seed).normal(size=(4, size))


def test_it_is_the_mean_squared_error_of_the_cosines():
    expected = reference.similarity_loss(_vectors(0, 3), _vectors(1), TEXTS)
    found = float(similarity_loss(_vectors(0, 3), _vectors(1), TEXTS))
    assert found == pytest.approx(expected, rel=1e-5)
    # what stands in a row of padding does not count
    other = np.where(TEXTS[:, None] > 0, _vectors(0, 3), 0.0)
    assert float(similarity_loss(other, _vectors(1), TEXTS)) == pytest.approx(found, rel=1e-6)


def test_parts_of_the_students_vectors_get_the_teachers_similarities():
    expected = [reference.similarity_loss(_vectors(0)[:, :n], _vectors(1), TEXTS) for n in (6, 2)]
    found = similarity_loss(_vectors(0), _vectors(1), TEXTS, dims=(2,))
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_turned_space_has_loss_zero():
    turn = np.linalg.qr(_vectors(3)[:, :4])[0]
    vectors = _vectors(1, 4)
    assert float(similarity_loss(vectors, vectors, TEXTS)) == 0.0
    assert float(similarity_loss(3.0 * vectors @ turn, vectors, TEXTS)) < 1e-10


def test_the_gradient_is_that_of_the_formula_and_reaches_the_student_alone():
    student, teacher = tf.constant(_vectors(0, 3)), tf.constant(_vectors(1))
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        value = similarity_loss(student, teacher, TEXTS)
    ours, theirs = tape.gradient(value, [student, teacher])
    assert theirs is None
    expected = numerical_gradient(
        lambda x: reference.similarity_loss(x, _vectors(1), TEXTS), _vectors(0, 3)
    )
    assert relative_error(ours.numpy(), expected) < 1e-4


def test_the_loss_reads_own_vectors_and_leaves_out_padding():
    mask = reference.random_mask([3, 1, 0, 2], 3)
    trace = reference.random_trace(0, mask)
    found = Similarity().compute_terms(
        Features(trace, vectors=_vectors(1)), Features(trace, vectors=_vectors(0, 3)), {}
    )
    expected = reference.similarity_loss(_vectors(0, 3), _vectors(1), TEXTS)
    assert float(found["similarity_loss"]) == pytest.approx(expected, rel=1e-5)
    spec = ModelSpec(tiny_config(hidden_size=6, num_heads=2))
    with pytest.raises(InputError, match="the student's sentence vectors have 6 numbers"):
        Similarity(matryoshka=(6,)).validate(spec, spec)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
