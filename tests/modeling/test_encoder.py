"""Tests of the encoder against an independent float64 forward pass."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.modeling import (
    BertEncoder,
    get_parameters,
    parameter_variables,
)
from tests.helpers import random_batch, relative_error, tiny_config
from tests.modeling import numpy_bert
from tests.modeling.tiny_encoder import build

TRACED = ("hidden_states", "queries", "keys", "values", "attention_scores")


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


def test_a_new_encoder_has_berts_initial_weights():
    parameters = get_parameters(BertEncoder(tiny_config(vocab_size=2000)))
    assert 0.015 < parameters["embeddings.token"].std() < 0.025
    assert np.abs(parameters["embeddings.token"]).max() <= 0.04 + 1e-6  # truncated at 2 sigma
    assert np.all(parameters["layers.0.attention.query.bias"] == 0.0)
    assert np.all(parameters["layers.0.output_layer_norm.gamma"] == 1.0)


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


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
