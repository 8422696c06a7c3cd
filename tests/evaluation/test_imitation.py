"""What students imitate: losses and maps against NumPy."""

import sys

import numpy as np
import pytest

from etd_tf.evaluation.classifiers import SequenceClassifier
from etd_tf.evaluation.imitation import (
    LayerMatcher,
    least_squares,
    logit_loss,
    span_logit_loss,
    state_loss,
)
from etd_tf.evaluation.training import WordTable
from etd_tf.losses import TinyBERT
from tests.helpers import random_batch, tiny_config


def softmax(values):
    shifted = np.exp(values - values.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@pytest.fixture
def pairs():
    random = np.random.default_rng(0)
    return random.normal(size=(5, 3)).astype("f4"), random.normal(size=(5, 3)).astype("f4")


def test_logits_are_compared_by_squared_error(pairs):
    student, teacher = pairs
    value = logit_loss(None)({"logits": student}, {"teacher_logits": teacher})
    assert float(value) == pytest.approx(((student - teacher) ** 2).mean(), rel=1e-6)


def test_logits_at_a_temperature_are_a_soft_cross_entropy(pairs):
    student, teacher = pairs
    value = logit_loss(2.0)({"logits": student}, {"teacher_logits": teacher})
    expected = -4 * (softmax(teacher / 2) * np.log(softmax(student / 2))).sum(-1).mean()
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_at_a_high_temperature_the_gradient_is_that_of_squared_error(pairs):
    """The oracle of Hinton et al. 2015, section 2.1: centred logits over the classes."""
    import tensorflow as tf

    student, teacher = (values.astype("f8") for values in pairs)
    logits = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = logit_loss(1e3)({"logits": logits}, {"teacher_logits": teacher})
    centred = [values - values.mean(-1, keepdims=True) for values in (student, teacher)]
    expected = (centred[0] - centred[1]) / 3 / len(student)
    np.testing.assert_allclose(tape.gradient(value, logits), expected, atol=2e-4)


def test_a_score_has_no_temperature():
    one, other = np.asarray([[1.0]], "f4"), np.asarray([[3.0]], "f4")
    assert float(logit_loss(2.0)({"logits": one}, {"teacher_logits": other})) == 4.0


def test_states_are_compared_by_squared_error(pairs):
    value = state_loss({"state": pairs[0]}, {"teacher_state": pairs[1]})
    assert float(value) == pytest.approx(((pairs[0] - pairs[1]) ** 2).mean(), rel=1e-6)


def test_least_squares_finds_a_linear_map():
    random = np.random.default_rng(1)
    inputs, kernel, bias = (
        random.normal(size=(200, 4)),
        random.normal(size=(4, 6)),
        random.normal(size=6),
    )
    found = least_squares(inputs, inputs @ kernel + bias)
    np.testing.assert_allclose(found[0], kernel, atol=5e-3)
    np.testing.assert_allclose(found[1], bias, atol=5e-3)
    constant = least_squares(np.ones((3, 2)), np.full((3, 1), 7.0))  # nothing to learn from
    np.testing.assert_allclose(np.ones(2) @ constant[0] + constant[1], [7.0], atol=1e-5)


def test_words_alone_are_compared():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3, 4)).astype("f4")
    table = WordTable(vectors, np.asarray([[-100, 0, -100, 1], [-100, 2, -100, -100]]))
    wanted = np.asarray(table[np.asarray([0, 1])])
    np.testing.assert_array_equal(wanted[0, 3], vectors[1])
    assert np.isnan(wanted).sum() == 5 * 4
    assert np.asarray(table[np.asarray([1])]).shape == (1, 4, 4)
    found = random.normal(size=(2, 3, 4)).astype("f4")  # the word in column 3 is out of reach
    ours, theirs = np.stack([found[0, 1], found[1, 1]]), vectors[[0, 2]]
    expected = np.mean((ours - theirs) ** 2)
    batch = {"teacher_state": wanted, "teacher_logits": wanted}
    assert float(state_loss({"state": found}, batch)) == pytest.approx(expected, rel=1e-5)
    loss = logit_loss(None)({"logits": found}, batch)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    soft = logit_loss(2.0)({"logits": found}, batch)
    entropy = -(softmax(theirs / 2) * np.log(softmax(ours / 2))).sum(-1).mean()
    assert float(soft) == pytest.approx(4 * entropy, rel=1e-5)


def spans(length, seed):
    return np.random.default_rng(seed).normal(size=(3, length, 2)).astype("f4")


@pytest.mark.parametrize("temperature", [None, 2.0])
def test_spans_are_compared_over_real_tokens(temperature):
    student, teacher = spans(5, 0), spans(9, 1)
    mask = np.asarray([[1] * 5, [1, 1, 1, 0, 0], [1] + [0] * 4], "i4")
    batch = {"teacher_logits": teacher, "padding_mask": mask}
    outputs = {"start_logits": student[..., 0], "end_logits": student[..., 1]}
    expected = []
    for row, n in enumerate(mask.sum(1)):
        for side in range(2):
            s, t = student[row, :n, side], teacher[row, :n, side]
            soft = -4 * (softmax(t / 2) * np.log(softmax(s / 2))).sum()
            expected.append(((s - t) ** 2).mean() if temperature is None else soft)
    value = float(span_logit_loss(temperature)(outputs, batch))
    assert value == pytest.approx(np.mean(expected), rel=1e-5)
    far = np.where(mask[..., None] > 0, student, 99)
    outputs = {"start_logits": far[..., 0], "end_logits": far[..., 1]}
    assert float(span_logit_loss(temperature)(outputs, batch)) == pytest.approx(value, rel=1e-6)


def test_layers_cost_nothing_where_the_student_is_its_teacher():
    teacher, student = (SequenceClassifier(tiny_config(), 2) for _ in range(2))
    student.set_parameters(teacher.get_parameters())
    width = teacher.config.hidden_size
    matcher = LayerMatcher(student, teacher, TinyBERT(), np.eye(width, dtype="f4"))
    matcher.restart(0)
    batch = random_batch(teacher.config)
    assert float(matcher(batch)["loss"]) == pytest.approx(0, abs=1e-9)
    other = LayerMatcher(student, teacher, TinyBERT())
    other.restart(1)
    first = float(other(batch)["loss"])
    other.restart(2)
    assert float(other(batch)["loss"]) != first > 0
    other.restart(1)
    assert float(other(batch)["loss"]) == first


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
