"""Tests of scoring inputs."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.extraction.inputs import ScoringInputs
from tests.helpers import random_batch, tiny_config


def test_defaults_are_one_segment_and_padding_by_token():
    inputs = ScoringInputs.from_examples({"token_ids": np.array([[5, 6, 0]])}, tiny_config())
    np.testing.assert_array_equal(inputs.segment_ids, [[0, 0, 0]])
    np.testing.assert_array_equal(inputs.padding_mask, [[1, 1, 0]])
    assert inputs.token_ids.dtype == np.int32


def test_order_depends_on_content_alone():
    config = tiny_config()
    batch = random_batch(config, batch_size=6)
    inputs = ScoringInputs.from_examples(batch, config)
    shuffled = {name: value[[3, 0, 5, 1, 4, 2]] for name, value in batch.items()}
    padded = {name: np.pad(value, ((0, 0), (0, 4))) for name, value in batch.items()}
    other = ScoringInputs.from_examples(shuffled, config)
    np.testing.assert_array_equal(inputs.token_ids, other.token_ids)
    np.testing.assert_array_equal(inputs.segment_ids, other.segment_ids)
    other = ScoringInputs.from_examples(padded, config)
    np.testing.assert_array_equal(inputs.token_ids, other.token_ids[:, :7])
    assert sorted(map(tuple, inputs.token_ids)) == sorted(map(tuple, batch["token_ids"]))


def test_batches_have_one_size_and_cover_every_example_once():
    config = tiny_config()
    inputs = ScoringInputs.from_examples(random_batch(config, batch_size=7), config)
    batches = list(inputs.batches(3))
    assert [batch.first_row for batch in batches] == [0, 3, 6]
    assert [batch.size for batch in batches] == [3, 3, 1]
    assert {batch.inputs["token_ids"].shape for batch in batches} == {(3, 7)}
    real = [b.inputs["token_ids"][b.weights > 0] for b in batches]
    np.testing.assert_array_equal(np.concatenate(real), inputs.token_ids)
    assert next(inputs.batches(99)).inputs["token_ids"].shape == (7, 7)


@pytest.mark.parametrize(
    ("examples", "fix"),
    [
        ([[1, 2]], "received list"),
        ({"input_ids": np.ones((1, 2))}, r"received \['input_ids'\]"),
        ({"token_ids": np.ones((2, 3))}, "expected integers"),
        ({"token_ids": np.ones(3, int)}, r"expected integers \[n, T\]"),
        ({"token_ids": np.ones((0, 3), int)}, "at least one example"),
        ({"token_ids": np.full((1, 2), 99)}, "encoded with the teacher's tokenizer"),
        ({"token_ids": np.full((1, 2), -1)}, "from -1"),
        ({"token_ids": np.ones((1, 24), int)}, "only 23 positions. Shorten"),
        (
            {"token_ids": np.ones((1, 2), int), "segment_ids": np.zeros((1, 3), int)},
            "same examples",
        ),
        ({"token_ids": np.ones((1, 2), int), "segment_ids": np.full((1, 2), 2)}, "knows 0 to 1"),
        ({"token_ids": np.ones((1, 2), int), "padding_mask": np.full((1, 2), 2)}, "knows 0 to 1"),
        ({"token_ids": np.zeros((1, 2), int)}, "No token of the examples is real"),
    ],
)
def test_refusals_name_the_fix(examples, fix):
    with pytest.raises(InputError, match=fix):
        ScoringInputs.from_examples(examples, tiny_config(vocab_size=99))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
