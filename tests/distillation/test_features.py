"""Tests of running a checkpoint for features."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.distillation.features import compute_features, gather_positions
from etd_tf.errors import InputError
from tests.helpers import random_batch, relative_error, tiny_checkpoint


def _batch(checkpoint):
    batch = random_batch(checkpoint.config, batch_size=3, length=5)
    positions = np.int32([[4, 0], [1, 1], [2, 3]])
    return batch | {
        "masked_lm_positions": positions,
        "masked_lm_ids": positions + 5,
        "masked_lm_weights": np.ones((3, 2), np.float32),
    }


def test_gathered_positions_are_those_of_each_example():
    states = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    positions = np.int32([[4, 0], [1, 1], [2, 3]])

    found = gather_positions(states, positions)

    expected = np.stack([states[i, row] for i, row in enumerate(positions)])
    np.testing.assert_array_equal(found, expected)


def test_gathering_works_with_unknown_sizes():
    signature = [tf.TensorSpec([None, None, 4]), tf.TensorSpec([None, None], tf.int32)]
    function = tf.function(gather_positions, input_signature=signature)
    states = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

    found = function(states, np.int32([[2], [0]]))

    np.testing.assert_array_equal(found, [[states[0, 2]], [states[1, 0]]])


def test_logits_are_the_heads_at_the_masked_positions():
    checkpoint = tiny_checkpoint(mlm_head=True)
    batch = _batch(checkpoint)

    features = compute_features(checkpoint, batch, mlm=True)

    table = checkpoint.encoder.embeddings.token
    everywhere = np.array(checkpoint.mlm_head(features.trace.sequence_output, table))
    expected = [everywhere[i, row] for i, row in enumerate(batch["masked_lm_positions"])]
    assert relative_error(features.mlm_logits, expected) < 1e-5
    np.testing.assert_array_equal(features.mlm_labels, batch["masked_lm_ids"])


def test_without_need_no_logits_are_computed():
    checkpoint = tiny_checkpoint(mlm_head=True)

    features = compute_features(checkpoint, random_batch(checkpoint.config), mlm=False)

    assert features.mlm_logits is None


def test_missing_inputs_are_named():
    checkpoint = tiny_checkpoint(mlm_head=True)

    with pytest.raises(InputError, match=r"masked_lm_weights; received \['padding_mask'"):
        compute_features(checkpoint, random_batch(checkpoint.config), mlm=True)
    with pytest.raises(InputError, match="token_ids; received ndarray"):
        compute_features(checkpoint, np.zeros((2, 3)), mlm=False)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
