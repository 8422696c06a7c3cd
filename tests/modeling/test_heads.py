"""Tests of the masked-LM head."""

import sys

import numpy as np
import pytest

from tests.helpers import relative_error, tiny_checkpoint


def _oracle(parameters, hidden_states, gelu):
    x = gelu(hidden_states @ parameters["mlm.dense.kernel"] + parameters["mlm.dense.bias"])
    centred = x - x.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    x = x * parameters["mlm.layer_norm.gamma"] + parameters["mlm.layer_norm.beta"]
    return x @ parameters["embeddings.token"].T + parameters["mlm.output_bias"]


def test_logits_equal_the_formula():
    checkpoint = tiny_checkpoint(seed=3, mlm_head=True, hidden_act="relu")
    parameters = {name: value.astype(np.float64) for name, value in checkpoint.parameters().items()}
    hidden_states = np.random.default_rng(5).normal(size=(2, 5, 15))

    logits = checkpoint.mlm_head(hidden_states, checkpoint.encoder.embeddings.token)

    expected = _oracle(parameters, hidden_states, lambda x: np.maximum(x, 0.0))
    assert relative_error(logits, expected) < 1e-5


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
