"""Pooling: every mode against its definition in NumPy, layers, lengths and prompts."""

import dataclasses
import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.modeling.pooling import ACTIVATIONS, POOLING_MODES, DenseLayer, Pooling

DEFINITIONS = {
    "cls": lambda x: x[0],
    "max": lambda x: x.max(axis=0),
    "mean": lambda x: x.mean(axis=0),
    "mean_sqrt_len_tokens": lambda x: x.sum(axis=0) / np.sqrt(len(x)),
    "weightedmean": lambda x: np.average(x, axis=0, weights=1 + np.arange(len(x))),
    "lasttoken": lambda x: x[-1],
}
LENGTHS = (5, 2, 1)


@pytest.fixture(scope="module")
def states():
    return np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def mask():
    return (np.arange(5)[None] < np.asarray(LENGTHS)[:, None]).astype(np.int32)


def expected(mode, states):
    return np.stack([DEFINITIONS[mode](s[:n]) for s, n in zip(states, LENGTHS, strict=True)])


def layer(inputs, outputs, activation="linear", seed=1):
    generator = np.random.default_rng(seed)
    kernel = generator.normal(size=(inputs, outputs)).astype(np.float32)
    return DenseLayer(kernel, generator.normal(size=outputs).astype(np.float32), activation)


def test_every_mode_is_defined_here():
    assert list(DEFINITIONS) == list(POOLING_MODES)


@pytest.mark.parametrize("mode", DEFINITIONS)
def test_mode(mode, states, mask):
    vectors = np.asarray(Pooling((mode,))(states, mask))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(mode, states), atol=1e-6)


@pytest.mark.parametrize("mode", DEFINITIONS)
def test_padding_has_no_effect(mode, states, mask):
    other = np.where(mask[:, :, None], states, 99.0)
    pooling = Pooling((mode,))
    assert np.array_equal(pooling(states, mask), pooling(other, mask))


def test_modes_are_concatenated_in_their_order(states, mask):
    vectors = np.asarray(Pooling(("mean", "cls"))(states, mask))
    wanted = np.concatenate([expected("mean", states), expected("cls", states)], axis=1)
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)


def test_tokens_that_do_not_count(states, mask):
    counted = mask.copy()
    counted[:, 0] = 0
    rows = slice(0, 2)  # the last text has one token
    for mode in ("cls", "mean", "max", "lasttoken"):
        vectors = np.asarray(Pooling((mode,))(states, mask, counted=counted))[rows]
        wanted = [DEFINITIONS[mode](states[i, 1:n]) for i, n in enumerate(LENGTHS[rows])]
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    vectors = np.asarray(Pooling(("weightedmean",))(states, mask, counted=counted))
    wanted = np.average(states[0, 1:], axis=0, weights=[2, 3, 4, 5])  # places stay
    np.testing.assert_allclose(vectors[0], wanted, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_layers(activation, states, mask):
    from scipy.special import erf, expit

    functions = {
        "linear": lambda x: x,
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        "sigmoid": expit,
        "silu": lambda x: x * expit(x),
    }
    first, second = layer(4, 3, activation), layer(3, 2)
    vectors = np.asarray(Pooling(dense=(first, second))(states, mask))
    hidden = functions[activation](expected("mean", states) @ first.kernel + first.bias)
    np.testing.assert_allclose(vectors, hidden @ second.kernel + second.bias, atol=1e-5)


@pytest.mark.parametrize("of_model", [True, False])
@pytest.mark.parametrize("asked", [True, False, None])
@pytest.mark.parametrize("dims", [3, None])
def test_length_one(of_model, asked, dims, states, mask):
    pooling = Pooling(normalize=of_model, truncate_dim=dims)
    vectors = np.asarray(pooling(states, mask, normalize=asked))
    wanted = expected("mean", states)
    if of_model and asked is not False:
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    wanted = wanted[:, :dims]
    if asked:
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert pooling.dimension(4) == vectors.shape[1]


def test_zeros_stay_zeros(mask):
    assert not np.asarray(Pooling(normalize=True)(np.zeros((3, 5, 4)), mask)).any()


def test_dimensions():
    assert Pooling().dimension(7) == 7
    assert Pooling(("cls", "max")).dimension(7) == 14
    assert Pooling(dense=(layer(7, 3),)).dimension(7) == 3
    assert Pooling(truncate_dim=99).dimension(7) == 7


def test_a_student_keeps_only_layers_that_fit(caplog):
    pooling = Pooling(("cls", "max"), dense=(layer(8, 3),), normalize=True)
    assert pooling.for_student(4) is pooling
    assert not caplog.records
    narrow = pooling.for_student(3)
    assert narrow == dataclasses.replace(pooling, dense=())
    assert "takes 8 dims, the student has 6: it stays behind" in caplog.text


def test_prompts():
    pooling = Pooling(prompts={"query": "q: ", "none": ""}, default_prompt_name="query")
    assert pooling.prompt(None) == pooling.prompt("query") == "q: "
    assert pooling.prompt("none") == pooling.prompt("") == Pooling().prompt(None) == ""
    assert pooling.prompt("passage: ") == "passage: "
    with pytest.raises(InputError, match=r"no prompt='qery'; the model has query, none\."):
        pooling.prompt("qery")


def test_layers_are_compared_by_value():
    assert layer(4, 3) == layer(4, 3)
    assert layer(4, 3) != layer(4, 3, seed=2)
    assert layer(4, 3) != layer(4, 3, "tanh")
    assert Pooling(dense=(layer(4, 3),)) == Pooling(dense=(layer(4, 3),))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pooling(("median",)), "'median': expected one or more of cls, max, mean,"),
        (lambda: Pooling(("cls", "cls")), "none twice"),
        (lambda: Pooling(()), "of no name"),
        (lambda: Pooling(dense=(layer(4, 3), layer(4, 3))), "makes 3 dims, .* next one takes 4"),
        (lambda: Pooling(default_prompt_name="a"), r"'a' is not among .* \(there are none\)"),
        (lambda: layer(4, 3, "swish"), "'swish' is unknown; choose from linear, tanh"),
        (lambda: DenseLayer(np.zeros((2, 3)), np.zeros(2)), r"expected \[in, out\] and \[out\]"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
