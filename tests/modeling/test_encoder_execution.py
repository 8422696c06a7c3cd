"""Tests of how the encoder runs: compiled, in low precision, saved, on other backends."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.modeling import (
    BertEncoder,
    get_parameters,
    parameter_variables,
)
from tests.helpers import REPOSITORY, random_batch, relative_error, tiny_config
from tests.modeling.tiny_encoder import build


@pytest.mark.parametrize(
    ("policy", "variables", "outputs"),
    [("mixed_bfloat16", "float32", "float32"), ("bfloat16", "bfloat16", "bfloat16")],
)
def test_low_precision(policy, variables, outputs):
    encoder, reference = build(dtype=policy), build()
    batch = random_batch(tiny_config())
    assert {v.dtype for v in parameter_variables(encoder).values()} == {variables}
    trace, expected = encoder.trace(batch), reference.trace(batch)
    assert trace.sequence_output.dtype == outputs
    assert {scores.dtype for scores in trace.attention_scores} == {tf.float32}
    error = relative_error(tf.cast(trace.sequence_output, "float32"), expected.sequence_output)
    assert 1e-4 < error < 0.05


def test_the_score_scale_is_not_rounded_to_bfloat16():
    encoder = build(dtype="mixed_bfloat16")
    trace = encoder.trace(random_batch(tiny_config()))
    q, k = (np.float64(tf.cast(x[0], "float32")) for x in (trace.queries, trace.keys))
    exact = np.einsum("bnqd,bnkd->bnqk", q, k) / np.sqrt(5.0)
    slope = np.sum(np.float64(trace.attention_scores[0]) * exact) / np.sum(exact * exact)
    assert abs(slope - 1.0) < 5e-4  # sqrt(1/5) in bfloat16 is 0.12 % too small


def test_save_and_load(tmp_path):
    encoder, batch = build(), random_batch(tiny_config())
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    assert loaded.config == encoder.config
    np.testing.assert_array_equal(
        loaded(batch)["sequence_output"], encoder(batch)["sequence_output"]
    )


def test_weights_file_round_trip(tmp_path):
    encoder, other = build(), build(seed=9)
    encoder.save_weights(tmp_path / "e.weights.h5")
    other.load_weights(tmp_path / "e.weights.h5")
    for name, value in get_parameters(encoder).items():
        np.testing.assert_array_equal(get_parameters(other)[name], value)


def test_config_keeps_policy_and_pooler():
    encoder = build(dtype="mixed_bfloat16", pooler=False)
    copy = BertEncoder.from_config(encoder.get_config())
    assert copy.config == encoder.config
    assert copy.pooler is None
    assert copy.dtype_policy.name == "mixed_bfloat16"
    assert copy.encoder_layers[0].attention.query.dtype_policy.name == "mixed_bfloat16"


def test_one_compiled_function_takes_every_shape():
    encoder = build()
    signature = {
        name: tf.TensorSpec([None, None], tf.int32)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    compiled = tf.function(encoder, input_signature=[signature])
    for length in (1, 6, 23):
        batch = random_batch(encoder.config, length=length)
        actual = compiled(batch)["sequence_output"]
        assert relative_error(actual, encoder(batch)["sequence_output"]) < 1e-5


@pytest.mark.parametrize("part", ["queries", "keys", "values"])
def test_traced_tensors_survive_the_graph_optimizer(part):
    """TensorFlow's rewriter of scale, product and sum mistakes outputs of one op for another."""
    encoder, batch = build(), random_batch(tiny_config())

    def relations(inputs):
        trace = encoder.trace(inputs)
        x = getattr(trace, part)[-1]
        mask = tf.cast(trace.padding_mask, tf.float32)[:, None, None, :]
        products = tf.matmul(x * np.float32(5**-0.5), x, transpose_b=True)
        return products + (1.0 - mask) * -10.0

    inputs = {name: tf.constant(value) for name, value in batch.items()}
    assert relative_error(tf.function(relations)(inputs), relations(inputs)) < 1e-5


_OTHER_BACKEND = """
import sys
import numpy as np
from etd_tf.modeling import BertEncoder, set_parameters
from tests.helpers import random_batch, random_parameters, tiny_config

import keras
assert keras.backend.backend() == sys.argv[1], keras.backend.backend()
assert "tensorflow" not in sys.modules
config = tiny_config()
encoder = BertEncoder(config)
set_parameters(random_parameters(config, 0), encoder)
outputs = encoder(random_batch(config))
seed = keras.ops.convert_to_tensor([3, 5], "int32")
trace = encoder.trace(random_batch(config), training=True, dropout_seed=seed)
first = keras.ops.convert_to_numpy(trace.sequence_output)
trace = encoder.trace(random_batch(config), training=True, dropout_seed=seed)
assert np.array_equal(first, keras.ops.convert_to_numpy(trace.sequence_output))
outputs = {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}
np.savez(sys.argv[2], **outputs)
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_backends_give_the_same_numbers(backend, tmp_path):
    pytest.importorskip(backend)
    environment = os.environ | {"KERAS_BACKEND": backend}
    subprocess.run(
        [sys.executable, "-c", _OTHER_BACKEND, backend, str(tmp_path / "out.npz")],
        check=True,
        cwd=REPOSITORY,
        env=environment,
    )
    expected = build()(random_batch(tiny_config()))
    with np.load(tmp_path / "out.npz") as outputs:
        for name, value in expected.items():
            assert relative_error(outputs[name], value) < 1e-5


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
