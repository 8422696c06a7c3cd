"""Tests of the memoryless shuffle."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.text.shuffle import shuffled


@settings(max_examples=60)
@given(count=st.integers(1, 700), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**32 - 1))
def test_every_order_is_a_permutation(count, seed, epoch):
    order = shuffled(np.arange(count), count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))


def test_any_place_can_be_looked_up_alone():
    order = shuffled(np.arange(1000), 1000, seed=3, epoch=1)
    places = np.array([999, 5, 5, 0])
    np.testing.assert_array_equal(shuffled(places, 1000, seed=3, epoch=1), order[places])
    assert shuffled(places[:0], 1000, seed=3, epoch=1).shape == (0,)


def test_huge_counts_need_no_memory():
    count = 10**11
    order = shuffled(np.arange(count - 5000, count), count, seed=0, epoch=0)
    assert len(np.unique(order)) == 5000
    assert 0 <= order.min() < count / 100
    assert count * 0.99 < order.max() < count


def test_seeds_and_epochs_give_unrelated_orders():
    orders = [
        shuffled(np.arange(500), 500, seed=seed, epoch=epoch)
        for seed in (0, 1, 2**32, 2**40)
        for epoch in (0, 1, 2**32 - 1)
    ]
    for i, first in enumerate(orders):
        assert (first == np.arange(500)).sum() < 8
        for second in orders[:i]:
            assert (first == second).sum() < 8  # 1 expected


@pytest.mark.parametrize("count", [3, 5, 24])
def test_each_example_is_equally_likely_at_each_place(count):
    trials = 1200
    counts = np.zeros((count, count))
    for seed in range(trials):
        counts[np.arange(count), shuffled(np.arange(count), count, seed=seed, epoch=0)] += 1
    expected = trials / count
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = (count - 1) ** 2
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def test_order_is_the_same_for_ever():
    # Pinned: a resumed run must see the order of the run that it continues.
    assert shuffled(np.arange(10), 10, seed=7, epoch=2).tolist() == [3, 9, 0, 8, 6, 1, 2, 4, 5, 7]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
