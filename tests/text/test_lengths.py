"""Tests of batches of similar length: each text once an epoch, in an order that steps find."""

import itertools
import sys

import numpy as np
import pytest

from etd_tf.text.batches import Worker, examples_of_steps, make_batches
from etd_tf.text.lengths import SimilarLengths, is_a_text_a_row, padded_lengths, window_batches
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import prepare_records
from tests.helpers import assert_batches_equal, tiny_tokenizer

SIZE, LENGTH = 4, 64


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """240 texts of 7 to 61 tokens, all different."""
    folder = tmp_path_factory.mktemp("records")
    generator = np.random.default_rng(0)
    letters = list("bcdfghjklmnp")
    lines = ["".join(generator.choice(letters, generator.integers(5, 60))) for _ in range(240)]
    (folder / "a.txt").write_text("\n".join(" ".join(line) for line in lines), "utf-8")
    options = RecordOptions(sequence_length=LENGTH, packing=False, held_out_fraction=0.0)
    return prepare_records(str(folder / "a.txt"), tiny_tokenizer(), folder / "out", options=options)


def batches_of(records, **changes):
    return make_batches(
        records, **{"batch_size": SIZE, "seed": 3, "similar_lengths": True, **changes}
    )


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def texts(batches):
    """The real tokens of all rows."""
    return [
        tuple(row[: mask.sum()].tolist())
        for batch in batches
        for row, mask in zip(batch["token_ids"], batch["padding_mask"], strict=True)
    ]


def test_an_epoch_has_each_text_once_and_less_padding(records):
    count = records.num_examples("train")
    window = window_batches(SIZE, count)
    assert count == 240
    assert window == 15
    found = take(batches_of(records), count // SIZE)
    plain = take(batches_of(records, similar_lengths=False), count // SIZE)
    assert sorted(texts(found)) == sorted(texts(plain))
    shares = [
        np.mean(np.concatenate([batch["padding_mask"].ravel() for batch in batches]))
        for batches in (found, plain)
    ]
    assert shares[0] > 0.78 > 0.65 > shares[1]
    lengths = {batch["token_ids"].shape for batch in found}
    assert 3 < len(lengths) <= 6
    assert {length for _, length in lengths} <= {*padded_lengths(LENGTH)}
    # A window holds the texts of the same steps without sorting.
    assert sorted(texts(found[:window])) == sorted(texts(plain[:window]))
    # Its batches do not come by length.
    order = [batch["token_ids"].shape[1] for batch in found[:window]]
    assert order not in (sorted(order), sorted(order, reverse=True))


def test_any_step_is_found_directly(records):
    whole = take(batches_of(records), 70)
    for start in (1, 14, 15, 61):
        assert_batches_equal(take(batches_of(records, start_step=start), 70 - start), whole[start:])
    assert texts(take(batches_of(records, seed=4), 15)) != texts(whole[:15])
    assert texts(whole[60:]) != texts(whole[:10])  # another epoch, another order


def test_workers_together_read_the_batch_of_one_process(records):
    whole = take(batches_of(records), 20)
    parts = [take(batches_of(records, worker=Worker(index, 2)), 20) for index in range(2)]
    joined = [
        {key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)
    ]
    assert_batches_equal(joined, whole)


def test_rows_of_steps_are_all_that_is_read(records, monkeypatch):
    read, original = set(), type(records).read

    def counting(self, split, indices):
        read.update(indices.tolist())
        return original(self, split, indices)

    monkeypatch.setattr(type(records), "read", counting)
    count = records.num_examples("train")
    source = SimilarLengths(records, "train", batch_size=SIZE, seed=3)
    for step in range(17):
        source.read(step, slice(None))
    expected = examples_of_steps(17, SIZE, count, seed=3, similar_lengths=True)
    assert sorted(read) == sorted(expected.tolist())
    assert len(expected) == 2 * 15 * SIZE


def test_few_texts_do_not_meet_themselves(records):
    assert window_batches(batch_size=100, count=240) == 1
    assert window_batches(batch_size=8, count=100_000) == 64
    for batch in take(batches_of(records), 60):
        assert len(set(texts([batch]))) == SIZE


@pytest.mark.parametrize(
    ("length", "expected"),
    [(128, [16, 32, 48, 64, 96, 128]), (20, [8, 16, 20]), (5, [5]), (512, None)],
)
def test_there_are_few_lengths(length, expected):
    found = padded_lengths(length)
    assert found == (expected or [64, 128, 192, 256, 384, 512])


def test_packed_records_are_not_a_text_a_row(records, tmp_path):
    assert is_a_text_a_row(records)
    (tmp_path / "a.txt").write_text("a b c\n\nd e f", "utf-8")
    options = RecordOptions(sequence_length=8, held_out_fraction=0.0)
    corpus = str(tmp_path / "a.txt")
    packed = prepare_records(corpus, tiny_tokenizer(), tmp_path / "out", options=options)
    assert not is_a_text_a_row(packed)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
