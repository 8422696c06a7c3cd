"""Tests of new bases for heads: the same teacher, and slices of it that lose the least."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.planning import plan_extraction
from etd_tf.extraction.starts.rotation import rotate_heads
from etd_tf.extraction.starts.statistics import ActivationStatistics, collect_statistics
from etd_tf.modeling.structure import SITES
from tests.helpers import random_batch, random_parameters, relative_error, tiny_config

TOKENS, HEADS, SIZE = 60, 3, 8
CONFIG = tiny_config(num_layers=3, hidden_size=HEADS * SIZE, num_heads=HEADS, intermediate_size=10)


def _weights(seed):
    """Weights with biases, whose heads have dims of unequal size."""
    generator = np.random.default_rng(seed)
    weights = random_parameters(CONFIG, seed)
    for name, value in weights.items():
        if ".attention." in name:
            weights[name] = (value * np.exp(generator.normal(size=value.shape[-1]))).astype("f4")
    return weights


def _plan(seed, **sizes):
    student = CONFIG.replace(**({"num_layers": 2, "hidden_size": 12} | sizes))
    return plan_extraction(CONFIG, student, seed=seed)


def _inputs(seed):
    """Dependent activations with a mean, one array a layer."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(3, TOKENS, 24)) @ generator.normal(size=(24, 24))
    return mixed + generator.normal(size=24)


def _heads(weights, layer, x):
    """Queries, keys and values of a layer by head, float64 `[N, T, D]` each."""
    for name in ("query", "key", "value"):
        prefix = f"layers.{layer - 1}.attention.{name}"
        states = x @ weights[f"{prefix}.kernel"].astype(np.float64) + weights[f"{prefix}.bias"]
        yield states.reshape(TOKENS, HEADS, SIZE).transpose(1, 0, 2)


def _gram(x):
    z = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    return z.T @ z


def _contexts(weights, layer, x):
    """Contexts `[T, H]` under fixed attention, which no basis changes."""
    mixing = np.random.default_rng(layer).random((HEADS, TOKENS, TOKENS)) / TOKENS
    _, _, values = _heads(weights, layer, x)
    return (mixing @ values).transpose(1, 0, 2).reshape(TOKENS, -1)


def _statistics(weights, inputs):
    contexts = [_gram(_contexts(weights, n, x)) for n, x in enumerate(inputs, start=1)]
    attention = [_gram(x) for x in inputs]
    empty = [np.zeros((2, 2))] * 3
    grams = {"attention_input": attention, "context": contexts, "ffn_input": empty, "inner": empty}
    return ActivationStatistics((1, 2, 3), grams)


def _case(seed, **sizes):
    weights, inputs, plan = _weights(seed), _inputs(seed), _plan(seed, **sizes)
    rotated, statistics = rotate_heads(weights, plan, _statistics(weights, inputs))
    return weights, rotated, inputs, plan, statistics


def _kept(columns, head):
    return columns[columns // SIZE == head] % SIZE


@given(st.integers(0, 2**31), st.sampled_from([3, 6, 9, 21]))
def test_no_head_computes_anything_else(seed, hidden_size):
    weights, rotated, inputs, plan, statistics = _case(seed, hidden_size=hidden_size)
    changed = {name for name, value in weights.items() if (rotated[name] != value).any()}
    parts = [f"{name}.{what}" for name in ("query", "key", "value") for what in ("kernel", "bias")]
    assert changed == {
        f"layers.{layer - 1}.attention.{part}"
        for layer in plan.layers
        for part in [*parts, "output.kernel"]
    }
    for layer in plan.layers:
        x, name = inputs[layer - 1], f"layers.{layer - 1}.attention.output.kernel"
        q, k, v = _heads(weights, layer, x)
        new_q, new_k, new_v = _heads(rotated, layer, x)
        assert relative_error(new_q @ new_k.swapaxes(1, 2), q @ k.swapaxes(1, 2)) < 1e-4
        assert relative_error(new_v @ new_v.swapaxes(1, 2), v @ v.swapaxes(1, 2)) < 1e-5
        contexts = _contexts(rotated, layer, x)
        expected = _contexts(weights, layer, x) @ weights[name]
        assert relative_error(contexts @ rotated[name], expected) < 1e-5
        assert relative_error(statistics.grams["context"][layer - 1], _gram(contexts)) < 1e-4


@given(st.integers(0, 2**31))
def test_kept_dims_hold_the_most_that_so_many_can(seed):
    """Against the plan's own dims, and against the best found in random bases."""
    weights, rotated, inputs, plan, _ = _case(seed)
    generator = np.random.default_rng(seed)
    for index, layer in enumerate(plan.layers):
        pair = [list(_heads(one, layer, inputs[layer - 1])) for one in (rotated, weights)]
        for head in range(HEADS):
            places = _kept(plan.query_key[index], head), _kept(plan.value[index], head)
            best = _lost(*(states[head] for states in pair[0]), *places)
            q, k, v = (states[head] for states in pair[1])
            assert (best <= _lost(q, k, v, *places) * (1 + 1e-3)).all()
            for _ in range(5):
                basis = generator.normal(size=(SIZE, SIZE))
                turn = np.linalg.qr(basis)[0]
                other = _lost(q @ basis, k @ np.linalg.inv(basis).T, v @ turn, *places)
                assert (best <= other * (1 + 1e-3)).all()


def _lost(q, k, v, query_key, value):
    """Size of what the dims that are not kept add to products and to values."""
    cut, rest = (np.setdiff1d(np.arange(SIZE), kept) for kept in (query_key, value))
    centred = k - k.mean(0)
    return np.array([np.linalg.norm(q[:, cut] @ centred[:, cut].T), np.linalg.norm(v[:, rest])])


def test_heads_of_low_rank_lose_nothing():
    generator = np.random.default_rng(5)
    weights, inputs, plan = _weights(0), _inputs(0), _plan(0)
    basis = np.zeros((24, 24))  # of rank 4 in every head, along no dim
    for head in range(HEADS):
        dims = slice(SIZE * head, SIZE * (head + 1))
        pair = generator.normal(size=(SIZE, 4)), generator.normal(size=(4, SIZE))
        basis[dims, dims] = pair[0] @ pair[1] / 6
    for name, value in weights.items():
        if ".query." in name or ".value." in name:
            weights[name] = (value @ basis).astype(np.float32)
    rotated, _ = rotate_heads(weights, plan, _statistics(weights, inputs))
    for index, layer in enumerate(plan.layers):
        sizes = [np.linalg.norm(states) for states in _heads(weights, layer, inputs[layer - 1])]
        heads = [list(_heads(one, layer, inputs[layer - 1])) for one in (rotated, weights)]
        for head in range(HEADS):
            places = _kept(plan.query_key[index], head), _kept(plan.value[index], head)
            after, before = (_lost(*(states[head] for states in one), *places) for one in heads)
            assert after[0] < 1e-4 * sizes[0] * sizes[1]
            assert after[1] < 1e-4 * sizes[2]
            assert (after < 1e-2 * before).all()


@pytest.mark.parametrize("sizes", [{"num_heads": 2, "hidden_size": 16}, {"hidden_size": 24}])
def test_whole_heads_stay(sizes):
    student = CONFIG.replace(num_layers=2, **sizes)
    plan = plan_extraction(CONFIG, student, seed=1, head_mode="heads")
    weights = _weights(1)
    rotated, _ = rotate_heads(weights, plan, _statistics(weights, _inputs(1)))
    for name, value in weights.items():
        np.testing.assert_array_equal(rotated[name], value)


def test_heads_that_do_nothing_still_do_nothing():
    weights, inputs, plan = _weights(2), _inputs(2), _plan(2)
    for name, value in weights.items():
        if ".attention.query." in name or ".attention.value." in name:
            value[..., :SIZE] = 0.0
    rotated, _ = rotate_heads(weights, plan, _statistics(weights, inputs))
    assert all(np.isfinite(value).all() for value in rotated.values())
    for layer in plan.layers:
        queries, _, values = _heads(rotated, layer, inputs[layer - 1])
        assert not queries[0].any()
        assert not values[0].any()


@pytest.mark.parametrize("states", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_text_of_few_states_gives_bases_all_the_same(states, seed):
    """Float32 sums over it have negative eigenvalues where there is no variance."""
    weights, plan = _weights(seed), _plan(seed)
    inputs = 3.0 * _inputs(seed)[:, np.arange(TOKENS) % states]
    grams = [np.asarray(_gram(x.astype(np.float32)).astype(np.float32), np.float64) for x in inputs]
    given = _statistics(weights, inputs)
    given = dataclasses.replace(given, grams={**given.grams, "attention_input": grams})
    rotated, _ = rotate_heads(weights, plan, given)
    assert all(np.isfinite(value).all() for value in rotated.values())
    for layer in plan.layers:
        ours, theirs = (list(_heads(one, layer, inputs[layer - 1])) for one in (rotated, weights))
        (q, k, v), (new_q, new_k, new_v) = theirs, ours
        assert relative_error(new_q @ new_k.swapaxes(1, 2), q @ k.swapaxes(1, 2)) < 1e-3
        assert relative_error(new_v @ new_v.swapaxes(1, 2), v @ v.swapaxes(1, 2)) < 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_heads_that_are_zero_on_text_of_one_state_get_bases_too(seed):
    """Biases that cancel the only state leave rounding alone, of either sign."""
    weights, plan = _weights(seed), _plan(seed)
    inputs = 3.0 * _inputs(seed)[:, np.zeros(TOKENS, int)]
    for layer, states in enumerate(inputs):
        for name in ("query", "key"):
            prefix = f"layers.{layer}.attention.{name}"
            weights[f"{prefix}.bias"] = -(states[0] @ weights[f"{prefix}.kernel"]).astype("f4")
    grams = [np.asarray(_gram(x.astype(np.float32)).astype(np.float32), np.float64) for x in inputs]
    given = _statistics(weights, inputs)
    given = dataclasses.replace(given, grams={**given.grams, "attention_input": grams})
    rotated, _ = rotate_heads(weights, plan, given)
    assert all(np.isfinite(value).all() for value in rotated.values())


def test_a_layer_that_was_not_measured_is_named():
    weights, plan = _weights(0), _plan(0)
    statistics = _statistics(weights, _inputs(0))
    missing = ActivationStatistics((9, 1, 2), statistics.grams)
    with pytest.raises(InputError, match=r"lack teacher layer 3; they hold \(9, 1, 2\)"):
        rotate_heads(weights, plan, missing)


def test_its_arguments_stay_as_they_were():
    weights, inputs, plan = _weights(0), _inputs(0), _plan(0)
    statistics = _statistics(weights, inputs)
    rotated, _ = rotate_heads(weights, plan, statistics)
    for name, value in _weights(0).items():
        np.testing.assert_array_equal(weights[name], value)
        assert rotated[name].dtype == value.dtype
    for gram, expected in zip(
        statistics.grams["context"], _statistics(weights, inputs).grams["context"], strict=True
    ):
        np.testing.assert_array_equal(gram, expected)


def test_the_whole_model_computes_the_same():
    teacher = Checkpoint(CONFIG, _weights(3))
    batch = random_batch(CONFIG, batch_size=6, length=9)
    batch["padding_mask"][:, 7:] = 0
    rotated, statistics = rotate_heads(
        teacher.parameters(), _plan(3), collect_statistics(teacher, batch)
    )
    other = Checkpoint(CONFIG, rotated)
    ours, theirs = (one.encoder(batch)["sequence_output"] for one in (other, teacher))
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    measured = collect_statistics(other, batch)
    for site in SITES:
        for found, expected in zip(statistics.grams[site], measured.grams[site], strict=True):
            assert relative_error(found, expected) < 1e-4


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
