"""Tests of the losses on masked-LM logits."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.losses import (
    Features,
    LogitsDistillation,
    MaskedLM,
    ModelSpec,
    logits_distillation_loss,
    masked_lm_loss,
)
from tests.helpers import relative_error, tiny_config
from tests.losses import reference

WEIGHTS = np.float32([[1, 1, 0], [1, 0, 0]])
LABELS = np.int32([[3, 0, 0], [10, 0, 0]])


def _logits(seed):
    return np.random.default_rng(seed).normal(size=(2, 3, 11)) * 3


def test_masked_lm_loss_equals_the_formula():
    expected = reference.masked_lm_loss(_logits(0), LABELS, WEIGHTS)

    assert float(masked_lm_loss(_logits(0), LABELS, WEIGHTS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_logits_distillation_loss_equals_the_formula(temperature):
    expected = reference.prediction_loss(_logits(0), _logits(1), WEIGHTS, temperature)

    found = logits_distillation_loss(_logits(0), _logits(1), WEIGHTS, temperature=temperature)

    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_floor_is_the_teachers_entropy():
    logits = _logits(1)
    probabilities = np.exp(reference.log_softmax(logits))
    entropy = reference.example_mean(-(probabilities * np.log(probabilities)).sum(-1), WEIGHTS)

    equal = float(logits_distillation_loss(logits + 7.0, logits, WEIGHTS))

    assert equal == pytest.approx(entropy, rel=1e-5)
    assert equal < float(logits_distillation_loss(_logits(0), logits, WEIGHTS))


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_equal_pytorch(compiled):
    torch = pytest.importorskip("torch")
    student, teacher = (torch.tensor(_logits(i), requires_grad=True) for i in (0, 1))
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    target = torch.softmax(teacher.detach() / 2.0, -1)
    soft = -(target * torch.log_softmax(student / 2.0, -1)).sum(-1)
    labels = torch.tensor(LABELS, dtype=torch.int64)[..., None]
    hard = -torch.log_softmax(student, -1).gather(-1, labels)[..., 0]
    (((soft + hard) * weights).sum(1) / weights.sum(1)).mean().backward()

    ours = [tf.Variable(_logits(i), dtype=tf.float32) for i in (0, 1)]

    def gradients():
        with tf.GradientTape() as tape:
            loss = logits_distillation_loss(*ours, WEIGHTS, temperature=2.0)
            loss += masked_lm_loss(ours[0], LABELS, WEIGHTS)
        return tape.gradient(loss, ours)

    found = (tf.function(gradients, jit_compile=True) if compiled else gradients)()

    assert relative_error(found[0], student.grad.numpy()) < 1e-5
    assert found[1] is None


def test_classes_compute_their_single_term():
    trace = reference.random_trace(0, np.ones((2, 4), np.int32))
    student, teacher = (Features(trace, _logits(i), LABELS, WEIGHTS) for i in (0, 1))

    own = MaskedLM().compute_terms(None, student, {})
    soft = LogitsDistillation(temperature=3.0).compute_terms(teacher, student, {})

    expected = reference.masked_lm_loss(_logits(0), LABELS, WEIGHTS)
    assert float(own["masked_lm_loss"]) == pytest.approx(expected, rel=1e-5)
    expected = reference.prediction_loss(_logits(0), _logits(1), WEIGHTS, 3.0)
    assert float(soft["logits_loss"]) == pytest.approx(expected, rel=1e-5)


def test_a_missing_head_is_refused_with_the_ways_out():
    headless, whole = ModelSpec(tiny_config()), ModelSpec(tiny_config(), mlm_head=True)

    with pytest.raises(InputError, match=r"student has none.*such as minilmv2"):
        MaskedLM().validate(headless, headless)
    with pytest.raises(InputError, match="teacher has none"):
        LogitsDistillation().validate(headless, whole)
    MaskedLM().validate(headless, whole)


def test_unequal_vocabularies_are_refused():
    specs = [ModelSpec(tiny_config(vocab_size=v), mlm_head=True) for v in (90, 91)]

    with pytest.raises(InputError, match="need the same vocabulary"):
        LogitsDistillation().validate(*specs)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(InputError, match=r"finite number >= 0\.001"):
        LogitsDistillation(temperature=0.0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
