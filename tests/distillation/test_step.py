"""Tests of the compiled step, against AdamW written out in NumPy."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.distillation.step import Learner, TrainStep, _whole_number
from etd_tf.losses import LogitsDistillation, MiniLM, TinyBERT
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.training import TrainerOptions
from etd_tf.training.optimization import make_optimizer
from tests.distillation.tiny_training import batch_of, make_distiller

RATE, DECAY = 0.02, 0.1


def _named(distiller):
    """Trained variables by name, projections included."""
    student = distiller.student
    named = dict(parameter_variables(student.encoder, student.mlm_head))
    for name, layer in distiller.projections.items():
        named |= {f"{name}.{variable.name}": variable for variable in layer.weights}
    used = {id(variable) for variable in distiller.trainable_variables}
    return {name: variable for name, variable in named.items() if id(variable) in used}


def _run(distiller, steps, *, per_call=1, size=4, strategy=None, **options):
    """Runs steps of a constant learning rate; returns the metrics of every call."""
    named = _named(distiller)
    optimizer = make_optimizer(RATE, weight_decay=DECAY, variables=distiller.trainable_variables)
    assert len(named) == len(distiller.trainable_variables)
    step = TrainStep(
        [Learner(distiller, optimizer, distiller.trainable_variables)],
        strategy=strategy or tf.distribute.get_strategy(),
        options=TrainerOptions(steps=steps, batch_size=size, **options),
    )
    stacked = {k: np.stack([batch_of(s, size)[k] for s in range(steps)]) for k in batch_of(0)}
    iterator = iter(tf.data.Dataset.from_tensor_slices(stacked))
    metrics = []
    for first in range(0, steps, per_call):
        count = min(per_call, steps - first)
        metrics += step.run(iterator, first, count, more=first + count < steps)
    weights = {name: variable.numpy() for name, variable in named.items()}
    return weights, metrics


def _reference(distiller, steps, clip_norm):
    """AdamW with decoupled decay and global clipping, in float64."""
    named = _named(distiller)
    weights = {name: variable.numpy().astype(np.float64) for name, variable in named.items()}
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    norms = []
    for step in range(steps):
        for name, variable in named.items():
            variable.assign(weights[name])
        with tf.GradientTape() as tape:
            loss, _ = distiller.distillation_loss(batch_of(step), training=False)
        found = tape.gradient(loss, [variable.value for variable in named.values()])
        gradients = [tf.convert_to_tensor(g).numpy().astype(np.float64) for g in found]
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
        norms.append(norm)
        factor = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for name, gradient in zip(named, gradients, strict=True):
            first, second = moments[name]
            first = 0.9 * first + 0.1 * factor * gradient
            second = 0.999 * second + 0.001 * (factor * gradient) ** 2
            moments[name] = (first, second)
            rate = RATE * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            spared = name.endswith(("bias", "gamma", "beta"))
            kept = 1.0 if spared else 1.0 - RATE * DECAY
            weights[name] = weights[name] * kept - rate * first / (np.sqrt(second) + 1e-6)
    return weights, norms


def test_steps_are_adamw_with_clipping_by_the_global_norm():
    clip_norm = 3.6
    expected, norms = _reference(make_distiller(TinyBERT("all")), 3, clip_norm)
    assert max(norms) > clip_norm > min(norms)  # one step is clipped, another is not
    weights, metrics = _run(make_distiller(TinyBERT("all")), 3, clip_norm=clip_norm)
    np.testing.assert_allclose([m["gradient_norm"] for m in metrics], norms, rtol=1e-4)
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, atol=2e-5, err_msg=name)


@pytest.fixture(scope="module")
def plain():
    """Weights and metrics of four plain steps without dropout."""
    return _run(make_distiller(), 4)


def _assert_close(found, expected, tolerance=2e-5):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=tolerance, err_msg=name)


def test_unused_weights_do_not_exist_for_the_optimizer():
    distiller = make_distiller()
    student = distiller.student
    named = parameter_variables(student.encoder, student.mlm_head)
    before = {name: variable.numpy() for name, variable in named.items()}
    weights, _ = _run(distiller, 2)
    unused = set(named) - set(weights)
    assert {"layers.0.intermediate.kernel", "pooler.kernel", "mlm.dense.kernel"} <= unused
    for name in unused:
        np.testing.assert_array_equal(named[name].numpy(), before[name], err_msg=name)
    for name in weights:
        if name != "layers.0.attention.key.bias":  # shifts all scores of a query alike
            assert (weights[name] != before[name]).any(), name


def test_gradient_accumulation_equals_the_whole_batch(plain):
    weights, metrics = _run(make_distiller(), 4, gradient_accumulation=2)
    _assert_close(weights, plain[0])
    for found, expected in zip(metrics, plain[1], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_many_steps_a_call_equal_one(plain):
    weights, metrics = _run(make_distiller(), 4, per_call=3)
    _assert_close(weights, plain[0], 1e-6)
    mean = np.mean([m["loss"] for m in plain[1][:3]])
    assert metrics[0]["loss"] == pytest.approx(mean, rel=1e-5)


def test_xla_equals_plain_graphs(plain):
    weights, metrics = _run(make_distiller(), 4, jit_compile="on")
    _assert_close(weights, plain[0])
    for found, expected in zip(metrics, plain[1], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_another_seed_is_another_dropout(plain):
    losses = [_run(make_distiller(dropout=0.5), 1, seed=seed)[1][0]["loss"] for seed in (0, 1)]
    assert len({*losses, plain[1][0]["loss"]}) == 3


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_near_float32(precision, plain):
    weights, metrics = _run(make_distiller(precision=precision), 2)
    assert all(value.dtype == np.float32 for value in weights.values())
    for found, expected in zip(metrics, plain[1], strict=False):
        assert found["loss"] == pytest.approx(expected["loss"], rel=0.05)
        assert found["loss"] != expected["loss"]


def test_masked_lm_logits_are_distilled_down_to_the_head():
    distiller = make_distiller(LogitsDistillation(temperature=2.0))
    assert {"mlm.dense.kernel", "mlm.output_bias", "layers.0.output.kernel"} <= set(
        _named(distiller)
    )
    _, metrics = _run(distiller, 4)
    assert metrics[-1]["logits_loss"] < metrics[0]["logits_loss"]


def test_step_numbers_are_not_kept():
    number = int("1234567")  # not one of the compiler's constants
    before = sys.getrefcount(number)
    assert _whole_number(number).numpy() == 1234567
    assert sys.getrefcount(number) == before


def test_several_losses_share_a_step():
    _, (metrics,) = _run(make_distiller([MiniLM(), TinyBERT()]), 1)
    terms = {"attention_relation_loss", "value_relation_loss", "attention_loss", "hidden_loss"}
    assert set(metrics) >= {"loss", "gradient_norm", "distillation_loss"}
    assert len(terms & set(metrics)) >= 2


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
