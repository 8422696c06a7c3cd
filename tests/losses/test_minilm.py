"""Tests of MiniLM's loss."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.losses import (
    Features,
    MiniLM,
    MiniLMv2,
    ModelSpec,
    relation_loss,
    relation_scores,
)
from tests.helpers import relative_error, tiny_config
from tests.losses import reference

MASK = reference.random_mask([7, 4, 1], 7)


def _scores(seed, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(3, 5, 7, 7))


def test_relation_loss_equals_the_formula():
    student, teacher = _scores(0), _scores(1, scale=3.0)

    expected = reference.relation_loss(student, teacher, MASK)

    assert float(relation_loss(student, teacher, MASK)) == pytest.approx(expected, rel=1e-5)


def test_large_scores_lose_no_precision():
    student, teacher = _scores(0) + 4000.0, _scores(1) - 4000.0
    student, teacher = (x.astype(np.float32).astype(np.float64) for x in (student, teacher))

    expected = reference.relation_loss(student, teacher, MASK)

    assert float(relation_loss(student, teacher, MASK)) == pytest.approx(expected, rel=1e-5)


def test_an_impossible_key_costs_what_it_should():
    student = np.zeros((1, 1, 2, 2))
    student[..., 0] = -500.0
    expected = reference.relation_loss(student, np.zeros((1, 1, 2, 2)), np.ones((1, 2)))

    loss = relation_loss(student, np.zeros((1, 1, 2, 2)), np.ones((1, 2)))

    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert expected > 200


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_equal_pytorch(compiled):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7, 4))
    student, teacher = (torch.tensor(v, requires_grad=True) for v in x)
    mask = torch.tensor(MASK, dtype=torch.float64)

    def log_relation(v):
        scores = (v @ v.transpose(-1, -2)) / 2.0
        return torch.log_softmax(scores.masked_fill(mask[:, None, None, :] == 0, -1e30), -1)

    log_t, log_s = log_relation(teacher.detach()), log_relation(student)
    rows = torch.where(mask[:, None, None, :] > 0, log_t.exp() * (log_t - log_s), 0.0).sum(-1)
    ((rows * mask[:, None, :]).sum((1, 2)) / (5 * mask.sum(1))).mean().backward()

    ours = [tf.Variable(v, dtype=tf.float32) for v in x]

    def gradients():
        with tf.GradientTape() as tape:
            loss = relation_loss(relation_scores(ours[0]), relation_scores(ours[1]), MASK)
        return tape.gradient(loss, ours)

    found = (tf.function(gradients, jit_compile=True) if compiled else gradients)()

    assert relative_error(found[0], student.grad.numpy()) < 1e-5
    assert found[1] is None


def test_an_example_of_padding_alone_has_loss_and_gradient_zero():
    student = tf.Variable(_scores(0), dtype=tf.float32)

    with tf.GradientTape() as tape:
        loss = relation_loss(student, _scores(1), np.zeros((3, 7), np.int32))

    assert float(loss) == 0.0
    np.testing.assert_array_equal(tape.gradient(loss, student), 0.0)


@pytest.mark.parametrize("layer", [-1, 2])
def test_minilm_equals_the_formula(layer):
    teacher = reference.random_trace(0, MASK, layers=4, size=5)
    student = reference.random_trace(1, MASK, layers=2, size=2)
    loss = MiniLM(teacher_layer=layer, value_weight=0.5)
    index = layer - 1 if layer > 0 else layer

    terms = loss.compute_terms(Features(teacher), Features(student), {})

    attention = reference.relation_loss(
        student.attention_scores[-1], teacher.attention_scores[index], MASK
    )
    value = reference.relation_loss(
        reference.relation_scores(student.values[-1]),
        reference.relation_scores(teacher.values[index]),
        MASK,
    )
    assert float(terms["attention_relation_loss"]) == pytest.approx(attention, rel=1e-5)
    assert float(terms["value_relation_loss"]) == pytest.approx(value, rel=1e-5)
    total = loss.compute_loss(Features(teacher), Features(student))
    assert float(total) == pytest.approx(attention + 0.5 * value, rel=1e-5)


@given(st.permutations(range(5)), st.permutations(range(3)))
@settings(max_examples=10)
def test_minilm_sees_no_order_of_dimensions_or_heads(dimensions, heads):
    teacher = reference.random_trace(0, MASK)
    student = reference.random_trace(1, MASK)

    def permuted(trace, axes):
        values = tuple(x[:, heads][..., axes] for x in trace.values)
        scores = tuple(x[:, heads] for x in trace.attention_scores)
        return Features(trace._replace(values=values, attention_scores=scores))

    expected = float(MiniLM().compute_loss(Features(teacher), Features(student)))
    found = MiniLM().compute_loss(permuted(teacher, dimensions), permuted(student, range(5)))

    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_unequal_head_counts_are_refused_with_the_ways_out():
    student = ModelSpec(tiny_config(hidden_size=10, num_heads=2))

    with pytest.raises(InputError, match=r"3 heads.*student 2.*minilmv2.*teacher's number of"):
        MiniLM().validate(ModelSpec(tiny_config()), student)
    MiniLMv2().validate(ModelSpec(tiny_config()), student)


@pytest.mark.parametrize("loss", [MiniLM(teacher_layer=0), MiniLMv2(teacher_layer=4)])
def test_a_missing_teacher_layer_is_refused(loss):
    spec = ModelSpec(tiny_config())

    with pytest.raises(InputError, match=r"1 to 3 from below, or -1 .the last. to -3"):
        loss.validate(spec, spec)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
