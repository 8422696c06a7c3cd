"""Tests of encoding on several cores."""

import sys

import pytest

from etd_tf.text.encoding_pool import block_encoder
from tests.helpers import tiny_tokenizer


def blocks(count):
    for i in range(count):
        yield i, [f"the cat {i}", "sat on", "x" * (i % 3)]


def collect(workers, count):
    with block_encoder(tiny_tokenizer(), workers) as encode:
        return [(tag, ids.tolist(), n.tolist()) for tag, (ids, n) in encode(blocks(count))]


def test_any_number_of_workers_gives_the_same_in_order():
    one = collect(1, 20)
    assert [tag for tag, _, _ in one] == list(range(20))
    tokenizer = tiny_tokenizer()
    for (tag, ids, lengths), (_, texts) in zip(one, blocks(20), strict=True):
        expected = tokenizer.encode_batch(texts)
        assert ids == [i for row in expected for i in row], tag
        assert lengths == [len(row) for row in expected]
    assert collect(2, 20) == one


def test_reads_only_a_little_ahead_and_ends_early():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield len(taken), ["the cat"]

    with block_encoder(tiny_tokenizer(), 2) as encode:
        assert next(encode(endless()))[0] == 1
    assert len(taken) <= 6


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
