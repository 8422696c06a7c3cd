"""Ids that a model lacks are refused at every door, never taken for others."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.modeling.ids import check_ids, find_outside, known_values
from tests.helpers import tiny_config
from tests.modeling.tiny_encoder import build

CONFIG = tiny_config()
WRONG = {
    "wrapped around": ("token_ids", -1),
    "ignored label": ("token_ids", -100),
    "too large": ("token_ids", CONFIG.vocab_size),
    "beyond int32": ("token_ids", 2**32 + 5),
    "negative segment": ("segment_ids", -1),
    "third segment": ("segment_ids", CONFIG.type_vocab_size),
}
each_wrong = pytest.mark.parametrize(("name", "wrong"), WRONG.values(), ids=WRONG.keys())


def batch_with(name, wrong, dtype=np.int64):
    batch = {key: np.ones((4, 3), dtype) for key in ("token_ids", "segment_ids", "padding_mask")}
    batch[name][2, 1] = wrong
    return batch


@each_wrong
def test_arrays_are_refused_with_place_and_range(name, wrong):
    limit = CONFIG.vocab_size if name == "token_ids" else CONFIG.type_vocab_size
    with pytest.raises(InputError, match=rf"{wrong} in {name} at \[2, 1\].*0 to {limit - 1}\."):
        build()(batch_with(name, wrong))


def test_lists_eager_tensors_and_traces_are_checked_too():
    encoder = build()
    with pytest.raises(InputError, match=r"-1 in token_ids at \[0, 1\]"):
        encoder.trace({"token_ids": [[2, -1, 3]]})
    with pytest.raises(InputError, match="-1 in token_ids"):
        encoder.trace({"token_ids": tf.constant([[2, -1, 3]])})
    with pytest.raises(InputError, match="nan in token_ids"):
        encoder({"token_ids": np.array([[2.0, np.nan]])})


@each_wrong
def test_a_compiled_function_refuses_them(name, wrong):
    encoder = build()
    run = tf.function(lambda batch: encoder(batch)["sequence_output"])
    batch = batch_with(name, 1, np.int32)
    assert np.isfinite(run(batch)).all()
    batch[name][2, 1] = np.int32(wrong if abs(wrong) < 2**31 else 2**31 - 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[2,1\].*is not in \[0"):
        run(batch)


@each_wrong
def test_loops_of_keras_refuse_them(name, wrong):
    encoder, batch = build(), batch_with(name, wrong)
    encoder.compile(optimizer="sgd", loss={"sequence_output": "mse", "pooled_output": None})
    targets = {"sequence_output": np.zeros((4, 3, CONFIG.hidden_size), np.float32)}
    match = f"{wrong} in {name}"
    with pytest.raises(InputError, match=match):
        encoder.predict(batch, verbose=0)
    with pytest.raises(InputError, match=match):
        encoder.predict_on_batch(batch)
    with pytest.raises(InputError, match=match):
        encoder.fit(batch, targets, verbose=0)
    with pytest.raises(InputError, match=match):
        encoder.evaluate(tf.data.Dataset.from_tensors((batch, targets)), verbose=0)


def test_every_kind_of_data_is_checked_as_it_is_read():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return (batch_with("token_ids", -7 if index else 1),)

    def generate():
        yield from (Batches()[0], Batches()[1])

    encoder = build()
    for data in (Batches(), generate()):
        with pytest.raises(InputError, match=r"-7 in token_ids at \[2, 1\]"):
            encoder.predict(data, verbose=0)


def test_correct_batches_pass_unchanged():
    encoder, batch = build(), batch_with("token_ids", 5)
    expected = encoder(batch)["sequence_output"]
    for data in (batch, tf.data.Dataset.from_tensors(batch)):
        got = encoder.predict(data, verbose=0)["sequence_output"]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_targets_and_lengths():
    good = {
        "token_ids": np.ones((1, 3), int),
        "masked_lm_positions": np.array([[0, 2]]),
        "masked_lm_ids": np.array([[5, 0]]),
    }
    check_ids(good, CONFIG)
    with pytest.raises(InputError, match=r"3 in masked_lm_positions.*0 to 2"):
        check_ids(good | {"masked_lm_positions": np.array([[0, 3]])}, CONFIG)
    with pytest.raises(InputError, match=r"-100 in masked_lm_ids.*masked_lm_weights of 0"):
        check_ids(good | {"masked_lm_ids": np.array([[5, -100]])}, CONFIG)
    with pytest.raises(InputError, match=r"24 tokens a sequence.*23 positions"):
        check_ids({"token_ids": np.ones((1, 24), int)}, CONFIG)


def test_what_is_outside_and_what_is_known():
    assert find_outside(np.zeros((0, 3), int), 1) is None
    assert find_outside(np.array([[0, 4], [5, 1]]), 5) == (1, 0)
    assert known_values(keras.KerasTensor((None, 3))) is None
    assert known_values([[1], [2, 3]]) is None


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
