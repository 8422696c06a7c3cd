"""Batches of similar length."""

import sys

import numpy as np
import pytest

from etd_tf.tokenization.sequences import Sequences, TwinSequences


def of_lengths(lengths, *, max_length):
    """Sequences without padding tokens, of the second segment."""
    rows = tuple(np.arange(1, 1 + length, dtype=np.int32) for length in lengths)
    return Sequences(rows, tuple(map(np.ones_like, rows)), 0, max_length)


def test_rows_are_taken_in_the_given_order():
    taken = of_lengths([3, 10, 21], max_length=21).take(np.asarray([2, 0]))
    assert taken.lengths.tolist() == [21, 3]
    assert len(taken) == 2


def test_batches_pad_to_a_multiple_of_eight_or_the_limit():
    sequences = of_lengths([3, 10, 21], max_length=21)
    batch = sequences.batch(np.asarray([0, 1]))
    assert batch["token_ids"].shape == (2, 16)
    assert batch["padding_mask"].sum(axis=1).tolist() == [3, 10]
    assert (batch["token_ids"][0, 3:] == sequences.pad_id).all()
    assert all(value.dtype == np.int32 for value in batch.values())
    assert sequences.batch(np.asarray([2]))["token_ids"].shape == (1, 21)


def test_batches_by_length_hold_every_sequence_once_within_the_budget():
    generator = np.random.default_rng(0)
    sequences = of_lengths(generator.integers(3, 23, 57), max_length=23)
    batches = list(sequences.batches_by_length(64))
    assert sorted(np.concatenate(batches).tolist()) == list(range(57))
    widths = [sequences.batch(rows)["token_ids"].shape for rows in batches]
    assert all(rows * length <= 64 for rows, length in widths)
    assert [length for _, length in widths] == sorted([w for _, w in widths], reverse=True)
    assert len(list(sequences.batches_by_length(1))) == 57


def twins_of(lengths, max_length=21):
    return TwinSequences(
        *vars(of_lengths([*lengths[0], *lengths[1]], max_length=max_length)).values()
    )


def test_twins_are_two_rows_of_a_batch():
    twins = twins_of([[3, 10, 5], [4, 2, 21]])
    assert len(twins) == 3
    assert twins.lengths.tolist() == [4, 10, 21]
    batch = twins.batch(np.asarray([1, 0]))
    assert batch["padding_mask"].sum(1).tolist() == [10, 3, 2, 4]
    taken = twins.take(np.asarray([2, 0]))
    assert taken.batch(np.arange(2))["padding_mask"].sum(1).tolist() == [5, 3, 21, 4]
    joined = twins.joined(twins_of([[6], [7]]))
    assert len(joined) == 4
    assert joined.batch(np.asarray([0, 3]))["padding_mask"].sum(1).tolist() == [3, 6, 4, 7]


def test_batches_of_twins_keep_to_the_budget():
    generator = np.random.default_rng(0)
    twins = twins_of(generator.integers(3, 23, (2, 57)), max_length=23)
    batches = list(twins.batches_by_length(64))
    assert sorted(np.concatenate(batches).tolist()) == list(range(57))
    shapes = [twins.batch(rows)["token_ids"].shape for rows in batches]
    assert all(rows * width <= 64 for rows, width in shapes)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
