"""Tests of the forward pass that shows every cut site."""

import sys

import numpy as np
import pytest

from etd_tf.extraction.sites import trace_sites
from tests.helpers import random_batch, relative_error, tiny_checkpoint


def test_sites_agree_with_the_encoder_and_with_their_readers():
    teacher = tiny_checkpoint(seed=8)
    config, p = teacher.config, teacher.parameters()
    batch = random_batch(config)
    trace = teacher.encoder.trace(batch)
    sites = trace_sites(teacher.encoder, batch)
    inputs = (trace.embedding_output, *trace.hidden_states)
    assert len(sites) == config.num_layers
    for index, site in enumerate(sites):
        layer = f"layers.{index}"
        np.testing.assert_allclose(site.attention_input, inputs[index], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(site.output, inputs[index + 1], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(site.queries, trace.queries[index])
        np.testing.assert_array_equal(site.keys, trace.keys[index])
        before = site.ffn_input @ p[f"{layer}.intermediate.kernel"]
        before = before + p[f"{layer}.intermediate.bias"]
        assert relative_error(site.preactivation, before) < 1e-5
        heads = np.transpose(site.context, (0, 2, 1, 3)).reshape((*batch["token_ids"].shape, 15))
        attended = heads @ p[f"{layer}.attention.output.kernel"]
        attended = attended + p[f"{layer}.attention.output.bias"] + np.asarray(site.attention_input)
        centred = attended - attended.mean(-1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        normal = normal * p[f"{layer}.attention_layer_norm.gamma"]
        normal = normal + p[f"{layer}.attention_layer_norm.beta"]
        assert relative_error(site.ffn_input, normal) < 1e-4
        out = np.asarray(site.inner) @ p[f"{layer}.output.kernel"] + p[f"{layer}.output.bias"]
        assert out.shape == np.shape(site.output)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_sites_follow_the_encoder_in_low_precision(policy):
    teacher = tiny_checkpoint(seed=8).astype(policy)
    batch = random_batch(teacher.config)
    trace = teacher.encoder.trace(batch)
    for site, expected in zip(
        trace_sites(teacher.encoder, batch), trace.hidden_states, strict=True
    ):
        assert site.output.dtype == expected.dtype
        ours, theirs = (np.asarray(x).astype(np.float32) for x in (site.output, expected))
        assert relative_error(ours, theirs) < 0.02


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
