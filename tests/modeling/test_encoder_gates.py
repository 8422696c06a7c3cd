"""Tests of the gates, through which units are scored and switched off."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import random_batch, relative_error, tiny_config
from tests.modeling.tiny_encoder import build, edited, unit_gates


def test_gates_of_ones_change_nothing():
    encoder, batch = build(), random_batch(tiny_config())
    plain, gated = encoder.trace(batch), encoder.trace(batch, gates=unit_gates(encoder.config))
    for left, right in zip(tf.nest.flatten(plain), tf.nest.flatten(gated), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_zero_intermediate_gate_removes_the_neuron():
    encoder, batch = build(), random_batch(tiny_config())
    gates = unit_gates(encoder.config)
    gates.intermediate[1][:, 4] = 0.0

    removed = edited(encoder, lambda p: p["layers.1.output.kernel"].__setitem__(4, 0.0))

    expected = removed(batch)["sequence_output"]
    assert relative_error(encoder.trace(batch, gates=gates).sequence_output, expected) < 1e-5
    assert relative_error(encoder(batch)["sequence_output"], expected) > 1e-3


def test_a_zero_value_gate_removes_the_output_row():
    encoder, batch = build(), random_batch(tiny_config())
    gates = unit_gates(encoder.config)
    gates.value[0][:, 2, 3] = 0.0

    row = 2 * 5 + 3
    removed = edited(encoder, lambda p: p["layers.0.attention.output.kernel"].__setitem__(row, 0.0))

    expected = removed(batch)["sequence_output"]
    assert relative_error(encoder.trace(batch, gates=gates).sequence_output, expected) < 1e-5
    assert relative_error(encoder(batch)["sequence_output"], expected) > 1e-3


def test_a_query_key_gate_scales_one_product():
    encoder, batch = build(), random_batch(tiny_config())
    gates = unit_gates(encoder.config)
    gates.query_key[2][:, 1, 4] = 0.25

    def scale_query(parameters):
        parameters["layers.2.attention.query.kernel"][:, 1 * 5 + 4] *= 0.25
        parameters["layers.2.attention.query.bias"][1 * 5 + 4] *= 0.25

    trace = encoder.trace(batch, gates=gates)
    expected = edited(encoder, scale_query).trace(batch)
    assert relative_error(trace.attention_scores[2], expected.attention_scores[2]) < 1e-5
    assert relative_error(trace.sequence_output, expected.sequence_output) < 1e-5
    assert relative_error(encoder.trace(batch).sequence_output, expected.sequence_output) > 1e-5
    np.testing.assert_array_equal(trace.queries[2], encoder.trace(batch).queries[2])  # ungated


@pytest.mark.parametrize("site", [0, 2, 3])
def test_a_zero_hidden_gate_silences_the_channel(site):
    encoder, batch = build(), random_batch(tiny_config())
    gates = unit_gates(encoder.config)
    gates.hidden[site][:, 6] = 0.0

    layer_norm = "embeddings.layer_norm" if site == 0 else f"layers.{site - 1}.output_layer_norm"

    def silence(parameters):
        parameters[f"{layer_norm}.gamma"][6] = parameters[f"{layer_norm}.beta"][6] = 0.0

    trace = encoder.trace(batch, gates=gates)
    expected = edited(encoder, silence).trace(batch)
    assert relative_error(trace.sequence_output, expected.sequence_output) < 1e-5
    assert relative_error(trace.pooled_output, expected.pooled_output) < 1e-5
    states = (trace.embedding_output, *trace.hidden_states)
    assert np.all(np.asarray(states[site])[..., 6] == 0.0)


def test_gates_are_one_set_an_example():
    encoder, batch = build(), random_batch(tiny_config())
    gates = unit_gates(encoder.config)
    gates.intermediate[0][3, :] = 0.0
    plain, gated = encoder(batch)["sequence_output"], encoder.trace(batch, gates=gates)
    np.testing.assert_array_equal(gated.sequence_output[:3], plain[:3])
    assert relative_error(gated.sequence_output[3], plain[3]) > 1e-3


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
