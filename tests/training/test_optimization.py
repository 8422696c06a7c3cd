"""Tests of the schedule and the optimizer."""

import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.modeling.parameters import parameter_variables
from etd_tf.training.optimization import WarmupLinearDecay, make_optimizer
from tests.distillation.tiny_training import tiny_student


def _expected(step, peak, steps, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (steps - step) / (steps + 1 - warmup)


@settings(max_examples=15)
@given(st.integers(1, 60), st.data())
def test_the_schedule_follows_its_formula(steps, data):
    warmup = data.draw(st.integers(0, steps))
    schedule = WarmupLinearDecay(0.5, steps, warmup)
    rates = [float(schedule(step)) for step in range(steps)]
    expected = [_expected(step, 0.5, steps, warmup) for step in range(steps)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert min(rates) > 0.0  # no step is wasted
    assert float(schedule(steps)) == 0.0
    if warmup:
        assert int(np.argmax(rates)) == warmup - 1
        assert rates[warmup - 1] == 0.5


def test_the_schedule_survives_serialisation():
    schedule = WarmupLinearDecay(0.1, 20, 5)
    again = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(schedule), custom_objects=None
    )
    assert float(again(3)) == float(schedule(3))


@pytest.mark.parametrize("loss_scaling", [False, True])
def test_biases_and_layer_norms_are_not_decayed(loss_scaling):
    student = tiny_student()
    named = parameter_variables(student.encoder, student.mlm_head)
    variables = list(named.values())
    optimizer = make_optimizer(
        0.1, weight_decay=0.5, variables=variables, loss_scaling=loss_scaling
    )
    before = {name: keras.ops.convert_to_numpy(variable) for name, variable in named.items()}

    optimizer.apply([np.zeros(v.shape, np.float32) for v in variables], variables)

    for name, variable in named.items():
        spared = name.endswith(("bias", "gamma", "beta"))
        factor = 1.0 if spared else 1.0 - 0.1 * 0.5
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable), before[name] * factor, rtol=1e-6
        )
    decayed = [name for name in named if not name.endswith(("bias", "gamma", "beta"))]
    assert any("embeddings" in name for name in decayed)
    assert any(name.endswith("query.kernel") for name in decayed)


def test_state_exists_before_the_first_step():
    student = tiny_student()
    variables = student.encoder.trainable_variables
    optimizer = make_optimizer(0.1, weight_decay=0.0, variables=variables)
    count = len(optimizer.variables)
    assert count >= 2 * len(variables)
    optimizer.apply([np.ones(v.shape, np.float32) for v in variables], variables)
    assert len(optimizer.variables) == count


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
