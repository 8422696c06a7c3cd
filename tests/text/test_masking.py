"""Tests of dynamic masking."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.text.masking import Masking, mask_tokens
from tests.helpers import tiny_tokenizer

PAD, UNK, CLS, SEP, MASK, VOCAB = 0, 1, 2, 3, 4, 29
MASKING = Masking(mask_id=MASK, vocab_size=VOCAB, special_ids=(PAD, UNK, CLS, SEP, MASK))


def examples(rows=7, length=23, seed=0):
    """`[CLS] ordinary... [SEP] [PAD]...` with 1, 2, 3, ... ordinary tokens a row."""
    generator = np.random.default_rng(seed)
    token_ids = np.zeros((rows, length), np.int32)
    for row in range(rows):
        count = min(row * 3 + 1, length - 2)
        token_ids[row, : count + 2] = [CLS, *generator.integers(5, VOCAB, count), SEP]
    return token_ids, (token_ids != PAD).astype(np.int32)


def masked(token_ids, padding_mask, masking=MASKING, **keys):
    result = mask_tokens(token_ids, padding_mask, masking=masking, **({"seed": 0} | keys))
    return type(result)(*(value.numpy() for value in result))


def test_predicts_the_rounded_share_of_ordinary_tokens_and_at_least_one():
    token_ids, padding_mask = examples()
    result = masked(token_ids, padding_mask)
    ordinary = (token_ids > MASK).sum(1)
    expected = np.maximum(1, np.round(np.float32(0.15) * ordinary.astype(np.float32)))
    np.testing.assert_array_equal(result.weights.sum(1), expected)
    assert result.positions.shape == (7, 4)  # ceil(0.15 * 23)


def test_labels_are_the_original_tokens_at_ascending_ordinary_positions():
    token_ids, padding_mask = examples()
    result = masked(token_ids, padding_mask)
    for row, (positions, labels, weights) in enumerate(zip(*result[1:], strict=True)):
        used = weights > 0
        assert list(positions[used]) == sorted(set(positions[used]))
        np.testing.assert_array_equal(labels[used], token_ids[row, positions[used]])
        assert (labels[used] > MASK).all()
        assert not positions[~used].any()
        assert not labels[~used].any()
        untouched = np.setdiff1d(np.arange(token_ids.shape[1]), positions[used])
        np.testing.assert_array_equal(result.token_ids[row, untouched], token_ids[row, untouched])


def test_actions_are_80_10_10_and_positions_uniform():
    generator = np.random.default_rng(1)
    token_ids = generator.integers(1000, 30000, (2000, 64)).astype(np.int32)
    masking = Masking(mask_id=103, vocab_size=30522, special_ids=(0, 103), rate=0.25)
    result = masked(token_ids, np.ones_like(token_ids), masking)
    assert result.weights.all()
    new = np.take_along_axis(result.token_ids, result.positions, axis=1)
    kept, as_mask = (new == result.labels), (new == 103)
    # 32,000 draws: three standard deviations are below 0.007.
    assert as_mask.mean() == pytest.approx(0.8, abs=0.01)
    assert kept.mean() == pytest.approx(0.1, abs=0.01)
    replaced = new[~kept & ~as_mask]
    assert replaced.mean() == pytest.approx(30522 / 2, rel=0.03)
    # Each position is chosen in a quarter of 2,000 rows: standard deviation 19.
    chosen = np.bincount(result.positions.ravel(), minlength=64)
    assert abs(chosen - 500).max() < 90


def test_choice_depends_on_seed_step_and_row_but_not_on_the_batch():
    token_ids, padding_mask = (np.tile(x[-1:], (40, 1)) for x in examples())
    whole = masked(token_ids, padding_mask, seed=5, step=9)
    part = masked(token_ids[30:33], padding_mask[30:33], seed=5, step=9, first_row=30)
    for all_rows, some_rows in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_rows[30:33], some_rows)
    assert len(np.unique(whole.positions, axis=0)) > 30  # rows differ
    for change in ({"seed": 6, "step": 9}, {"seed": 5, "step": 10}, {"seed": 9, "step": 5}):
        other = masked(token_ids, padding_mask, **change)
        assert (other.positions != whole.positions).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_equals_eager(jit_compile):
    token_ids, padding_mask = examples()

    @tf.function(jit_compile=jit_compile)
    def compiled(step):
        return mask_tokens(token_ids, padding_mask, masking=MASKING, seed=2**40 + 3, step=step)

    for step in (0, 2**33 + 1):
        eager = masked(token_ids, padding_mask, seed=2**40 + 3, step=step)
        for a, b in zip(compiled(tf.constant(step, tf.int64)), eager, strict=True):
            np.testing.assert_array_equal(a, b)
    assert compiled(tf.constant(0, tf.int64)).positions.shape == (7, 4)


def test_row_without_ordinary_tokens_gets_no_prediction():
    token_ids = np.array([[CLS, UNK, SEP, PAD, PAD, PAD, PAD], [CLS, 9, SEP, 8, 8, 8, 8]])
    result = masked(token_ids, np.array([[1, 1, 1, 0, 0, 0, 0]] * 2))
    np.testing.assert_array_equal(result.weights, [[0, 0], [1, 0]])
    assert result.positions[1, 0] == 1
    np.testing.assert_array_equal(result.token_ids[0], token_ids[0])


@settings(max_examples=20)
@given(
    rate=st.floats(0.01, 1.0),
    limit=st.one_of(st.none(), st.integers(1, 40)),
    seed=st.integers(0, 2**63 - 1),
)
def test_never_more_than_the_limit_never_a_special_token(rate, limit, seed):
    token_ids, padding_mask = examples(rows=5, length=11, seed=seed % 100)
    masking = Masking(MASK, VOCAB, (PAD, UNK, CLS, SEP, MASK), rate, limit)
    result = masked(token_ids, padding_mask, masking, seed=seed)
    most = min(11, limit or int(np.ceil(rate * 11)))
    assert result.positions.shape == (5, most)
    counts = result.weights.sum(1)
    assert ((counts >= 1) & (counts <= most)).all()
    changed = result.token_ids != token_ids
    assert (token_ids[changed] > MASK).all()


def test_takes_special_ids_from_the_tokenizer():
    tokenizer = tiny_tokenizer()
    masking = Masking.from_tokenizer(tokenizer, max_predictions=3)
    assert masking.special_ids == (0, 1, 2, 3, 4)
    assert (masking.mask_id, masking.vocab_size) == (4, tokenizer.vocab_size)
    assert masking.num_predictions(100) == 3


def test_refuses_useless_rules():
    with pytest.raises(InputError, match=r"BERT uses 0\.15"):
        Masking(MASK, VOCAB, (), rate=15)
    with pytest.raises(InputError, match="give 1 or more"):
        Masking(MASK, VOCAB, (), max_predictions=0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
