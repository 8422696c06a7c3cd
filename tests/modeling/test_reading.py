"""What a head for texts reads: against NumPy, and what does not matter."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.modeling.reading import PAIRS, POOLS, USUAL, Reading

STATES = np.random.default_rng(0).normal(size=(4, 7, 5)).astype("f4")
MASK = np.asarray([[1] * 7, [1] * 3 + [0] * 4, [1] + [0] * 6, [1] * 5 + [0] * 2])


def test_the_mean_is_of_real_tokens():
    expected = [row[:n].mean(0) for row, n in zip(STATES, MASK.sum(1), strict=True)]
    np.testing.assert_allclose(Reading("mean").states(STATES, MASK), expected, atol=1e-6)
    other = np.where(MASK[..., None] > 0, STATES, 99)
    np.testing.assert_allclose(Reading("mean").states(other, MASK), expected, atol=1e-6)


@pytest.mark.parametrize("pool", ["pooled", "first"])
def test_the_others_read_the_first_token(pool):
    np.testing.assert_array_equal(Reading(pool).states(STATES, MASK), STATES[:, 0])


def test_twins_are_compared():
    u, v = STATES[:2, 0], STATES[2:, 0]
    expected = np.concatenate([u, v, abs(u - v), u * v], axis=1)
    twin = Reading(pairs="twin")
    np.testing.assert_array_equal(twin.compared(np.concatenate([u, v])), expected)
    assert (twin.width(5), USUAL.width(5)) == (20, 5)
    np.testing.assert_array_equal(USUAL.compared(u), u)


def test_what_differs_is_told():
    assert USUAL.is_usual
    assert USUAL.changes() == {}
    assert Reading("mean", "twin").describe() == "pool=mean, pairs=twin"
    assert [Reading(pool).needs_pooler for pool in POOLS] == [True, False, False]
    assert [Reading(pairs=pairs).is_twin for pairs in PAIRS] == [False, True]


@pytest.mark.parametrize("name", ["pool", "pairs"])
def test_other_choices_are_refused(name):
    with pytest.raises(InputError, match=f"{name}='max' is unknown; choose from (pooled|joint)"):
        Reading(**{name: "max"})


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
