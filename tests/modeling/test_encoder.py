"""Tests of the encoder against an independent float64 forward pass."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.modeling import (
    BertEncoder,
    EncoderGates,
    get_parameters,
    parameter_variables,
    set_parameters,
)
from tests.helpers import REPOSITORY, random_batch, random_parameters, relative_error, tiny_config
from tests.modeling import numpy_bert

TRACED = ("hidden_states", "queries", "keys", "values", "attention_scores")


def build(seed=0, *, pooler=True, dtype=None, **changes):
    config = tiny_config(**changes)
    encoder = BertEncoder(config, pooler=pooler, dtype=dtype)
    set_parameters(random_parameters(config, seed, pooler=pooler), encoder)
    return encoder


def unit_gates(config, batch_size=4):
    def ones(count, *shape):
        return tuple(np.ones((batch_size, *shape), np.float32) for _ in range(count))

    layers, heads = config.num_layers, (config.num_heads, config.head_size)
    return EncoderGates(
        hidden=ones(layers + 1, config.hidden_size),
        intermediate=ones(layers, config.intermediate_size),
        query_key=ones(layers, *heads),
        value=ones(layers, *heads),
    )


def edited(encoder, edit):
    """A copy of an encoder after `edit(parameters)` changed its weights in place."""
    parameters = get_parameters(encoder)
    edit(parameters)
    copy = BertEncoder(encoder.config)
    set_parameters(parameters, copy)
    return copy


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-2])
def test_trace_equals_the_formulas(hidden_act, epsilon):
    encoder = build(hidden_act=hidden_act, layer_norm_epsilon=epsilon)
    batch = random_batch(encoder.config)

    trace = encoder.trace(batch)

    expected = numpy_bert.forward(encoder.config, get_parameters(encoder), batch)
    assert relative_error(trace.embedding_output, expected.embedding_output) < 1e-5
    assert relative_error(trace.pooled_output, expected.pooled_output) < 1e-5
    for name in TRACED:
        actual = getattr(trace, name)
        assert len(actual) == 3
        for index, value in enumerate(actual):
            assert relative_error(value, getattr(expected, name)[index]) < 1e-5, (name, index)


def test_exact_and_tanh_gelu_differ():
    batch = random_batch(tiny_config())
    exact, tanh = (
        build(hidden_act=name)(batch)["sequence_output"] for name in ("gelu", "gelu_new")
    )
    assert 1e-5 < relative_error(exact, tanh) < 1e-2


def test_scores_are_scaled_products_of_queries_and_keys():
    trace = build().trace(random_batch(tiny_config()))
    for q, k, scores in zip(trace.queries, trace.keys, trace.attention_scores, strict=True):
        products = np.einsum("bnqd,bnkd->bnqk", np.float64(q), np.float64(k))
        assert relative_error(scores, products / np.sqrt(5)) < 1e-6


def test_call_returns_the_last_state_and_the_pooled_token():
    encoder, batch = build(), random_batch(tiny_config())
    outputs, trace = encoder(batch), encoder.trace(batch)
    assert sorted(outputs) == ["pooled_output", "sequence_output"]
    np.testing.assert_array_equal(outputs["sequence_output"], trace.sequence_output)
    np.testing.assert_array_equal(outputs["pooled_output"], trace.pooled_output)


def test_without_a_pooler_there_is_no_pooled_output():
    encoder = build(pooler=False)
    assert sorted(encoder(random_batch(encoder.config))) == ["sequence_output"]
    assert encoder.trace(random_batch(encoder.config)).pooled_output is None


def test_padding_changes_nothing():
    encoder, batch = build(), random_batch(tiny_config(), batch_size=5, length=6)
    padded = {name: np.pad(value, ((0, 0), (0, 4))) for name, value in batch.items()}
    padded["token_ids"][:, 6:] = 11  # whatever stands under the mask
    padded["segment_ids"][:, 6:] = 1

    short, long = encoder(batch), encoder(padded)

    assert relative_error(long["pooled_output"], short["pooled_output"]) < 1e-5
    real = batch["padding_mask"][..., None]
    assert (
        relative_error(long["sequence_output"][:, :6] * real, short["sequence_output"] * real)
        < 1e-5
    )


def test_examples_do_not_interact():
    encoder, batch = build(), random_batch(tiny_config())
    whole = encoder(batch)["sequence_output"]
    one = encoder({name: value[2:3] for name, value in batch.items()})["sequence_output"]
    assert relative_error(one[0], whole[2]) < 1e-5


def test_segments_and_mask_are_optional():
    encoder, batch = build(), random_batch(tiny_config())
    batch["segment_ids"] = np.zeros_like(batch["segment_ids"])
    everything = encoder(batch)["sequence_output"]
    only_ids = encoder({"token_ids": batch["token_ids"]})["sequence_output"]
    np.testing.assert_array_equal(everything, only_ids)


def test_the_default_mask_follows_the_padding_id():
    encoder, batch = build(pad_token_id=7), random_batch(tiny_config(pad_token_id=7))
    with_mask = encoder(batch)["sequence_output"]
    without = encoder({name: batch[name] for name in ("token_ids", "segment_ids")})
    np.testing.assert_array_equal(with_mask, without["sequence_output"])


def test_a_mask_may_be_boolean():
    encoder, batch = build(), random_batch(tiny_config())
    expected = encoder(batch)["sequence_output"]
    boolean = encoder(batch | {"padding_mask": batch["padding_mask"].astype(bool)})
    np.testing.assert_array_equal(boolean["sequence_output"], expected)


def test_a_row_of_padding_alone_stays_finite():
    encoder = build()
    assert np.isfinite(encoder({"token_ids": np.zeros((2, 3), np.int32)})["sequence_output"]).all()


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


def test_dropout_is_a_function_of_its_seed():
    encoder, batch = build(hidden_dropout=0.3, attention_dropout=0.2), random_batch(tiny_config())

    def run(*seed):
        seed = np.array(seed, np.int32)
        return np.asarray(encoder.trace(batch, training=True, dropout_seed=seed).sequence_output)

    np.testing.assert_array_equal(run(3, 500), run(3, 500))
    assert relative_error(run(3, 500), run(3, 501)) > 1e-2
    assert relative_error(run(3, 500), run(4, 500)) > 1e-2
    assert relative_error(run(3, 500), encoder(batch)["sequence_output"]) > 1e-2
    traced = tf.function(
        lambda seed: encoder.trace(batch, training=True, dropout_seed=seed).sequence_output
    )
    assert relative_error(traced(tf.constant([3, 500])), run(3, 500)) < 1e-5


def test_dropout_zeroes_its_rate_and_other_seeds_other_places():
    encoder, batch = build(hidden_dropout=0.5, attention_dropout=0.0), random_batch(tiny_config())
    trace = encoder.trace(batch, training=True, dropout_seed=np.array([1, 0], np.int32))
    dropped = np.asarray(trace.embedding_output) == 0.0
    assert 0.35 < dropped.mean() < 0.65
    other = encoder.trace(batch, training=True, dropout_seed=np.array([1, 1], np.int32))
    assert (dropped != (np.asarray(other.embedding_output) == 0.0)).mean() > 0.3


def test_dropout_is_off_in_inference_and_at_rate_zero():
    batch = random_batch(tiny_config())
    encoder = build(hidden_dropout=0.0, attention_dropout=0.0)
    inference = encoder(batch)["sequence_output"]
    np.testing.assert_array_equal(encoder(batch, training=True)["sequence_output"], inference)
    with_rates = build(hidden_dropout=0.5, attention_dropout=0.5)
    np.testing.assert_array_equal(with_rates(batch)["sequence_output"], inference)
    first, second = (with_rates(batch, training=True)["sequence_output"] for _ in range(2))
    assert relative_error(first, second) > 1e-2  # the model's own generator moves on


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


def test_a_new_encoder_has_berts_initial_weights():
    parameters = get_parameters(BertEncoder(tiny_config(vocab_size=2000)))
    assert 0.015 < parameters["embeddings.token"].std() < 0.025
    assert np.abs(parameters["embeddings.token"]).max() <= 0.04 + 1e-6  # truncated at 2 sigma
    assert np.all(parameters["layers.0.attention.query.bias"] == 0.0)
    assert np.all(parameters["layers.0.output_layer_norm.gamma"] == 1.0)


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


def test_gradients_reach_every_weight_in_use():
    encoder, batch = build(), random_batch(tiny_config())
    with tf.GradientTape() as tape:
        outputs = encoder(batch)
        weights = np.random.default_rng(1).normal(size=outputs["sequence_output"].shape)
        loss = tf.reduce_sum(outputs["sequence_output"] * weights)
        loss += tf.reduce_sum(outputs["pooled_output"] ** 2)
    variables = parameter_variables(encoder)
    gradients = tape.gradient(loss, [variable.value for variable in variables.values()])
    for name, gradient in zip(variables, gradients, strict=True):
        size = np.abs(tf.convert_to_tensor(gradient)).max()
        if name.endswith("key.bias"):  # softmax ignores a constant added to all keys' scores
            assert size < 1e-3
        else:
            assert size > 1e-3, name


def test_too_long_sequences_are_refused():
    encoder = build()
    with pytest.raises(InputError, match=r"24 tokens .* only 23 positions\. Shorten the sequences"):
        encoder({"token_ids": np.ones((1, 24), np.int32)})


@pytest.mark.parametrize("inputs", [{"input_ids": [[1]]}, [[1, 2]]])
def test_inputs_without_token_ids_are_refused(inputs):
    with pytest.raises(InputError, match=r"takes a dictionary with token_ids \[B, T\]"):
        build().trace(inputs)


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
