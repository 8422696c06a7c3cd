"""Tests of the shared reduction."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.losses.reductions import check_same_shape, masked_mean, mean_over_tokens
from tests.losses import reference


def test_mean_over_tokens_equals_the_formula():
    values = np.random.default_rng(0).normal(size=(3, 5))
    mask = reference.random_mask([5, 2, 1], 5)

    expected = (values[0].mean() + values[1, :2].mean() + values[2, 0]) / 3

    assert float(mean_over_tokens(values.astype(np.float32), mask)) == pytest.approx(expected)


def test_weights_below_one_are_a_weighted_mean():
    result = masked_mean(np.float32([[1.0, 3.0, 9.0]]), np.float32([[0.5, 0.25, 0.0]]))

    assert float(result[0]) == pytest.approx((0.5 + 0.75) / 0.75)


def test_an_example_without_tokens_is_zero():
    values = np.full((2, 3), 7.0, np.float32)

    assert float(mean_over_tokens(values, np.zeros((2, 3), np.int32))) == 0.0


def test_what_is_masked_may_be_infinite():
    values = np.float32([[2.0, np.inf, np.nan]])

    assert float(mean_over_tokens(values, np.int32([[1, 0, 0]]))) == 2.0


def test_unequal_shapes_are_refused_with_both_shapes():
    with pytest.raises(InputError, match=r"\(1, 2\).*\(1, 3\).*Do this\."):
        check_same_shape(np.zeros((1, 2)), np.zeros((1, 3)), "states", "Do this.")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
