"""Tests of cutting token ids into rows."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.text.packing import Packer
from tests.helpers import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
PAD, CLS, SEP = TOKENIZER.pad_id, TOKENIZER.cls_id, TOKENIZER.sep_id
texts = st.lists(st.lists(st.integers(5, 60), max_size=17), max_size=12)


def rows_of(text_batches, length, packing):
    packer = Packer(TOKENIZER, length, packing)
    results = [
        packer.add(
            np.array([i for text in batch for i in text], np.int64),
            np.array([len(text) for text in batch], np.int64),
        )
        for batch in text_batches
    ]
    results.append(packer.finish())
    rows = np.concatenate([rows for rows, _ in results])
    counts = np.concatenate([counts for _, counts in results])
    return rows, counts


def python_packer(all_texts, length):
    """The rule in plain Python."""
    stream = []
    for text in filter(None, all_texts):
        stream += ([SEP] if stream else []) + text
    inner = length - 2
    pieces = [stream[i : i + inner] for i in range(0, len(stream), inner)]
    return [[CLS, *p, SEP] + [PAD] * (inner - len(p)) for p in pieces], [len(p) + 2 for p in pieces]


@settings(max_examples=60)
@given(batches=st.lists(texts, max_size=5), length=st.integers(3, 11))
def test_packed_rows_hold_every_token_once_in_order(batches, length):
    rows, counts = rows_of(batches, length, packing=True)
    expected_rows, expected_counts = python_packer([t for b in batches for t in b], length)
    assert rows.tolist() == expected_rows
    assert counts.tolist() == expected_counts


@settings(max_examples=60)
@given(batches=st.lists(texts, max_size=5), length=st.integers(3, 11))
def test_padded_rows_hold_every_token_once_and_one_text_each(batches, length):
    rows, counts = rows_of(batches, length, packing=False)
    inner = length - 2
    pieces = [t[i : i + inner] for b in batches for t in b for i in range(0, len(t), inner)]
    assert rows.tolist() == [[CLS, *p, SEP] + [PAD] * (inner - len(p)) for p in pieces]
    assert counts.tolist() == [len(p) + 2 for p in pieces]


@settings(max_examples=30)
@given(all_texts=texts, cut=st.integers(0, 12))
def test_rows_do_not_depend_on_the_blocks(all_texts, cut):
    whole = rows_of([all_texts], 7, packing=True)
    parts = rows_of([all_texts[:cut], all_texts[cut:]], 7, packing=True)
    np.testing.assert_array_equal(whole[0], parts[0])


def test_finish_starts_afresh():
    packer = Packer(TOKENIZER, 6, packing=True)
    for _ in range(2):
        packer.add(np.array([9, 8]), np.array([2]))
        rows, counts = packer.finish()
        assert rows.tolist() == [[CLS, 9, 8, SEP, PAD, PAD]]
        assert counts.tolist() == [4]
    assert packer.finish()[0].shape == (0, 6)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
