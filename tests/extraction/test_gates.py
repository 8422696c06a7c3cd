"""Tests of gate gradients: finite differences, and identities with weight gradients."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.extraction.gates import gate_and_weight_gradients, gate_gradients
from etd_tf.modeling.parameters import parameter_variables
from tests.extraction.numpy_bert import gate_differences, states
from tests.helpers import random_batch, relative_error, tiny_checkpoint

_SIZES = {"num_layers": 2, "hidden_size": 6, "num_heads": 2, "intermediate_size": 5}


def _probe(batch, width, seed=2):
    """A fixed direction for every real token, `[B, T, H]` float32."""
    shape = (*batch["token_ids"].shape, width)
    direction = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return direction * batch["padding_mask"][..., None]


def _loss(probe):
    """Not linear in the last state, so that a wrong forward pass shows."""
    return lambda trace: tf.reduce_sum(tf.sin(trace.sequence_output) * probe, axis=(1, 2))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_gradients_equal_finite_differences_of_a_numpy_model(activation):
    teacher = tiny_checkpoint(seed=5, hidden_act=activation, **_SIZES)
    config, parameters = teacher.config, teacher.parameters()
    batch = random_batch(config, batch_size=3, length=5)
    probe = _probe(batch, config.hidden_size)

    gradients = gate_gradients(teacher.encoder, batch, _loss(probe))

    def losses(gates):
        return (np.sin(states(parameters, config, batch, gates)[-1]) * probe).sum((1, 2))

    expected = gate_differences(losses, config, 3)
    assert relative_error(gradients.hidden, expected.hidden) < 2e-4
    assert relative_error(gradients.ffn, expected.ffn) < 2e-4
    assert relative_error(gradients.query_key, expected.query_key) < 2e-4
    assert relative_error(gradients.value, expected.value) < 2e-4
    assert relative_error(gradients.heads, expected.value.sum(-1)) < 2e-4


def test_signed_sums_equal_the_weight_gradient_oracles():
    """A unit's only reader or writer is linear, so its weights know the gate's gradient."""
    teacher = tiny_checkpoint(seed=6, **_SIZES)
    config = teacher.config
    batch = random_batch(config, batch_size=4)
    variables = parameter_variables(teacher.encoder)
    names = [name for name in variables if not name.startswith("pooler")]
    gates, by_weight = gate_and_weight_gradients(
        teacher.encoder,
        batch,
        _loss(_probe(batch, config.hidden_size)),
        [variables[name].value for name in names],
    )
    summed = gates._replace(**{k: np.sum(v, axis=0) for k, v in gates._asdict().items()})
    weight = {name: np.asarray(variables[name]) for name in names}
    # a variable that is read by row index has a sparse gradient; none of those is used here
    product = {
        name: weight[name] * np.asarray(value)
        for name, value in zip(names, by_weight, strict=True)
        if not name.startswith(("embeddings.token", "embeddings.segment"))
    }
    dims = (config.num_heads, config.head_size)
    _assert_hidden(summed.hidden[0], product, "embeddings.layer_norm")
    for index in range(config.num_layers):
        layer = f"layers.{index}"
        ffn = product[f"{layer}.output.kernel"].sum(1)
        assert relative_error(summed.ffn[index], ffn) < 1e-4
        value = product[f"{layer}.attention.output.kernel"].sum(1).reshape(dims)
        assert relative_error(summed.value[index], value) < 1e-4
        assert relative_error(summed.heads[index], value.sum(-1)) < 1e-4
        for part in ("query", "key"):
            kernel, bias = (product[f"{layer}.attention.{part}.{w}"] for w in ("kernel", "bias"))
            dim = (kernel.sum(0) + bias).reshape(dims)
            assert relative_error(summed.query_key[index], dim) < 1e-4
        _assert_hidden(summed.hidden[index + 1], product, f"{layer}.output_layer_norm")


def _assert_hidden(gate, product, name):
    assert relative_error(gate, product[f"{name}.gamma"] + product[f"{name}.beta"]) < 1e-4


def test_examples_do_not_interact():
    teacher = tiny_checkpoint(seed=1, **_SIZES)
    batch = random_batch(teacher.config, batch_size=3)
    probe = _probe(batch, 6)
    together = gate_gradients(teacher.encoder, batch, _loss(probe))
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        alone = gate_gradients(teacher.encoder, one, _loss(probe[row : row + 1]))
        for ours, theirs in zip(together, alone, strict=True):
            assert relative_error(ours[row : row + 1], theirs) < 1e-4


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
