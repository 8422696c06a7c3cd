"""Tests of batches: order, resuming, workers and errors."""

import itertools
import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.text.batches import (
    Worker,
    batch_indices,
    evaluation_batches,
    input_errors,
    load_examples,
    make_batches,
)
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import prepare_records
from tests.helpers import assert_batches_equal, tiny_tokenizer


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two train shards; every example has other tokens."""
    folder = tmp_path_factory.mktemp("records")
    words = (f"{a}{b}{c} " for a in "bcdf" for b in "aeiou" for c in "lmn")
    (folder / "a.txt").write_text("\n\n".join(word * 3 for word in words), "utf-8")
    options = RecordOptions(sequence_length=11, num_shards=2, held_out_fraction=0.2)
    return prepare_records(str(folder / "a.txt"), tiny_tokenizer(), folder / "out", options=options)


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def rows(batches):
    return [tuple(row) for batch in batches for row in batch["token_ids"].tolist()]


def all_rows(records, split="train"):
    batch = records.read(split, np.arange(records.num_examples(split)))
    return [tuple(row) for row in batch["token_ids"].tolist()]


def test_shapes_and_types_are_static(records):
    dataset = make_batches(records, batch_size=5, seed=0)
    keys = ("token_ids", "segment_ids", "padding_mask")
    found = {key: (s.dtype.name, tuple(s.shape)) for key, s in dataset.element_spec.items()}
    assert found == dict.fromkeys(keys, ("int32", (5, 11)))
    assert take(dataset, 1)[0]["token_ids"].dtype == np.int32


def test_every_epoch_shows_every_example_once_in_another_order(records):
    count = records.num_examples()
    stream = rows(take(make_batches(records, batch_size=7, seed=1), -(-3 * count // 7)))
    epochs = [stream[i * count : (i + 1) * count] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(all_rows(records))
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != all_rows(records)
    assert stream != rows(take(make_batches(records, batch_size=7, seed=2), len(stream) // 7))


def test_resuming_shows_what_an_uninterrupted_run_would(records):
    whole = take(make_batches(records, batch_size=7, seed=1), 30)
    for start in (0, 1, 17):
        resumed = take(make_batches(records, batch_size=7, seed=1, start_step=start), 30 - start)
        assert_batches_equal(resumed, whole[start:])
    far = take(make_batches(records, batch_size=7, seed=1, start_step=10**12), 1)
    assert set(rows(far)) <= set(all_rows(records))


def test_order_is_that_of_batch_indices(records):
    everything = all_rows(records)
    count = len(everything)
    for step, batch in enumerate(take(make_batches(records, batch_size=4, seed=3), 9)):
        indices = batch_indices(step, 4, count, seed=3)
        assert rows([batch]) == [everything[i] for i in indices]


def test_workers_together_read_the_global_batch(records):
    whole = take(make_batches(records, batch_size=6, seed=5, start_step=2), 8)
    parts = [
        take(make_batches(records, batch_size=6, seed=5, start_step=2, worker=Worker(i, 3)), 8)
        for i in range(3)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_batches_equal(joined, whole)
    assert parts[0][0]["token_ids"].shape == (2, 11)


def test_a_batch_larger_than_the_split(records):
    count = records.num_examples()
    batch = take(make_batches(records, batch_size=2 * count + 1, seed=0), 1)[0]
    seen = rows([batch])
    assert all(seen.count(row) >= 2 for row in all_rows(records))


def test_evaluation_is_one_fixed_pass_filled_with_zeros(records):
    count = records.num_examples("validation")
    size = next(n for n in range(2, 9) if count % n)
    batches = take(evaluation_batches(records, batch_size=size), 1000)
    assert len(batches) == -(-count // size)
    real = [row for b in batches for row in rows([b])[: int(b["padding_mask"].any(1).sum())]]
    assert sorted(real) == sorted(all_rows(records, "validation"))
    last = batches[-1]
    filling = size - count % size
    assert not any(value[-filling:].any() for value in last.values())
    assert_batches_equal(batches, take(evaluation_batches(records, batch_size=size), 1000))


def test_evaluation_workers_divide_each_batch(records):
    whole = take(evaluation_batches(records, batch_size=4), 99)
    parts = [
        take(evaluation_batches(records, batch_size=4, worker=Worker(i, 2)), 99) for i in range(2)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_batches_equal(joined, whole)


def test_sample_has_no_repeats_and_grows_at_its_end(records):
    big = load_examples(records, 20, seed=4)
    assert len({tuple(row) for row in big["token_ids"].tolist()}) == 20
    small = load_examples(records, 8, seed=4)
    for key in big:
        np.testing.assert_array_equal(big[key][:8], small[key])
    other = load_examples(records, 20, seed=5)
    assert (other["token_ids"] != big["token_ids"]).any()
    everything = load_examples(records, records.num_examples(), seed=0)
    assert sorted(rows([everything])) == sorted(all_rows(records))


def test_damage_is_reported_as_an_input_error(tmp_path):
    (tmp_path / "a.txt").write_text("the cat\n\nthe dog", "utf-8")
    options = RecordOptions(sequence_length=8, held_out_fraction=0.0)
    made = prepare_records(
        str(tmp_path / "a.txt"), tiny_tokenizer(), tmp_path / "out", options=options
    )
    path = made.shards["train"][0].path
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    dataset = make_batches(made, batch_size=2, seed=0)
    message = r"\.tfrecord is damaged at record 0.*again; if .* delete .*\.$"
    with pytest.raises(InputError, match=message), input_errors():
        take(dataset, 1)


def test_other_errors_pass_input_errors_unchanged():
    import tensorflow as tf

    with pytest.raises(tf.errors.OutOfRangeError), input_errors():
        raise tf.errors.OutOfRangeError(None, None, "end")


def test_refuses_impossible_requests(records):
    with pytest.raises(InputError, match="Give a positive multiple of 4"):
        make_batches(records, batch_size=6, seed=0, worker=Worker(0, 4))
    with pytest.raises(InputError, match="expected 0 <= index < count"):
        make_batches(records, batch_size=6, seed=0, worker=Worker(2, 2))
    with pytest.raises(InputError, match="Pass sequence_length=11"):
        make_batches(records, batch_size=6, seed=0, sequence_length=128)
    with pytest.raises(InputError, match=f"Ask for 1 to {records.num_examples()} examples"):
        load_examples(records, 10**6, seed=0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
