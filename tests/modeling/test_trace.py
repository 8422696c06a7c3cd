"""Tests of what the trace shows at the places where units are cut."""

import sys

import numpy as np
import pytest

from tests.helpers import random_batch, relative_error, tiny_checkpoint


def test_every_cut_site_is_what_its_reader_reads():
    teacher = tiny_checkpoint(seed=8)
    p, batch = teacher.parameters(), random_batch(teacher.config)
    trace = teacher.encoder.trace(batch)
    assert len(trace.contexts) == len(trace.inners) == teacher.config.num_layers
    np.testing.assert_array_equal(trace.layer_inputs[0], trace.embedding_output)
    np.testing.assert_array_equal(trace.layer_inputs[2], trace.hidden_states[1])
    for index in range(teacher.config.num_layers):
        layer = f"layers.{index}"

        def read(x, name, layer=layer):
            return np.asarray(x) @ p[f"{layer}.{name}.kernel"] + p[f"{layer}.{name}.bias"]

        def normal(x, name, layer=layer):
            centred = x - x.mean(-1, keepdims=True)
            scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
            return scaled * p[f"{layer}.{name}.gamma"] + p[f"{layer}.{name}.beta"]

        x = np.asarray(trace.layer_inputs[index])
        heads = read(x, "attention.query").reshape(*x.shape[:2], 3, -1).transpose(0, 2, 1, 3)
        assert relative_error(trace.queries[index], heads) < 1e-5
        attended = x + read(trace.contexts[index], "attention.output")
        ffn_input = normal(attended, "attention_layer_norm")
        assert relative_error(trace.ffn_inputs[index], ffn_input) < 1e-4
        before = read(trace.ffn_inputs[index], "intermediate")
        assert relative_error(trace.preactivations[index], before) < 1e-5
        out = np.asarray(trace.ffn_inputs[index]) + read(trace.inners[index], "output")
        assert relative_error(trace.hidden_states[index], normal(out, "output_layer_norm")) < 1e-4


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_sites_have_the_encoders_precision(policy):
    teacher = tiny_checkpoint(seed=8)
    batch = random_batch(teacher.config)
    low, high = (one.encoder.trace(batch) for one in (teacher.astype(policy), teacher))
    for name in ("contexts", "ffn_inputs", "preactivations", "inners"):
        for ours, theirs in zip(getattr(low, name), getattr(high, name), strict=True):
            assert relative_error(np.asarray(ours).astype(np.float32), theirs) < 0.05


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
