"""Tests of what a job reads: tokenizer, corpus, and masked batches that never vary."""

import dataclasses
import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.jobs import inputs
from etd_tf.jobs.inputs import (
    TrainingText,
    check_corpus,
    prepare_corpus,
    records_identity,
    with_tokenizer,
)
from etd_tf.jobs.options import CorpusOptions
from etd_tf.text.batches import make_batches
from etd_tf.text.record_directories import open_records
from etd_tf.training import TrainerOptions
from tests.helpers import tiny_checkpoint, tiny_tokenizer
from tests.jobs.tiny_job import write_text

LENGTH = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    path = write_text(folder / "text.txt", documents=200)
    return CorpusOptions((str(path),), sequence_length=LENGTH, cache_dir=folder / "cache")


@pytest.fixture(scope="module")
def teacher():
    return tiny_checkpoint()


@pytest.fixture(scope="module")
def records(corpus, teacher):
    return prepare_corpus(corpus, teacher)


def _text(records, teacher, rate=0.3, **changes):
    return TrainingText(records, teacher, rate, TrainerOptions(steps=9, batch_size=4, **changes))


def _take(dataset, count):
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def _assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_masking_is_a_function_of_seed_and_step(records, teacher):
    text = _text(records, teacher)
    whole = _take(text.batches(), 6)
    for step, batch in enumerate(_take(text.batches(2), 4), start=2):
        _assert_equal(batch, whole[step])
    (other,) = _take(_text(records, teacher, seed=1).batches(), 1)
    assert (other["token_ids"] != whole[0]["token_ids"]).any()
    # The same text is masked differently when it comes again.
    assert (whole[0]["masked_lm_positions"] != whole[1]["masked_lm_positions"]).any()


def test_masked_positions_hold_what_was_there(records, teacher):
    (masked,) = _take(_text(records, teacher).batches(), 1)
    (plain,) = _take(make_batches(records, batch_size=4, seed=0), 1)
    used = masked["masked_lm_weights"] > 0
    rows = np.arange(4)[:, None]
    original = plain["token_ids"][rows, masked["masked_lm_positions"]]
    np.testing.assert_array_equal(masked["masked_lm_ids"][used], original[used])
    assert used.sum() >= 4
    changed = (masked["token_ids"] != plain["token_ids"]).sum()
    assert 0 < changed <= used.sum()
    mask_id = tiny_tokenizer().mask_id
    assert (masked["token_ids"] == mask_id).sum() > 0


def test_workers_together_read_the_batch_of_one_process(records, teacher):
    text = _text(records, teacher)
    whole = _take(text.batches(3), 2)
    parts = [_take(text.batches(3, 2, index), 2) for index in range(2)]
    for step in range(2):
        joined = {k: np.concatenate([part[step][k] for part in parts]) for k in whole[step]}
        _assert_equal(joined, whole[step])


def test_held_out_text_is_masked_the_same_way_every_time(records, teacher):
    text = _text(records, teacher)
    first, second = (_take(text.held_out(512), 99) for _ in range(2))
    for found, expected in zip(first, second, strict=True):
        _assert_equal(found, expected)
    plain = _take(_text(records, teacher, rate=0.0).held_out(512), 99)
    assert "masked_lm_ids" not in plain[0]
    assert len(plain) == len(first)
    assert len(_take(text.held_out(5), 99)) == 2 < len(first)  # batches of 4
    train_only = dataclasses.replace(records, shards={"train": records.shards["train"]})
    assert _text(train_only, teacher).held_out(512) is None


def test_few_held_out_sequences_are_said(records, teacher, monkeypatch, caplog):
    found = records.num_examples("validation")
    _text(records, teacher).held_out(1000)
    assert f"measured on {found} held-out sequences only" in caplog.text
    caplog.clear()
    monkeypatch.setattr(inputs, "_FEW_HELD_OUT", found)
    _text(records, teacher).held_out(1000)
    assert not caplog.text


def test_without_masking_the_batches_are_the_records(records, teacher):
    (batch,) = _take(_text(records, teacher, rate=0.0).batches(5), 1)
    (expected,) = _take(make_batches(records, batch_size=4, seed=0, start_step=5), 1)
    _assert_equal(batch, expected)


def test_shapes_are_static(records, teacher):
    spec = _text(records, teacher).batches().element_spec
    assert {name: tuple(part.shape) for name, part in spec.items()} == {
        "token_ids": (4, LENGTH),
        "segment_ids": (4, LENGTH),
        "padding_mask": (4, LENGTH),
        "masked_lm_positions": (4, 5),  # ceil(0.3 * 16)
        "masked_lm_ids": (4, 5),
        "masked_lm_weights": (4, 5),
    }


def test_identity_follows_the_text(corpus, teacher, records, tmp_path):
    mine = records_identity(records)
    assert mine == records_identity(prepare_corpus(corpus, teacher))
    other = write_text(tmp_path / "other.txt", documents=39)
    changed = dataclasses.replace(corpus, corpus=(str(other),), cache_dir=tmp_path)
    assert records_identity(prepare_corpus(changed, teacher)) != mine
    held_out = dataclasses.replace(corpus, validation_corpus=(str(other),), cache_dir=tmp_path)
    assert records_identity(prepare_corpus(held_out, teacher)) != mine


def _write_records(path, count):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in range(count):
            feature = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=[row + 5] * 8))
                for name in ("input_ids", "segment_ids", "input_mask")
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return path


def test_foreign_records_are_told_apart_by_files_and_counts(tmp_path):
    _write_records(tmp_path / "a.tfrecord", 3)
    _write_records(tmp_path / "dev.tfrecord", 2)
    assert records_identity(open_records(tmp_path)) == {
        "train": [["a.tfrecord", 3]],
        "validation": [["dev.tfrecord", 2]],
    }


def test_text_is_looked_for_before_it_is_read(corpus, tmp_path):
    check_corpus(corpus)
    records = (str(_write_records(tmp_path / "a.tfrecord", 1)),)
    check_corpus(CorpusOptions(records, sequence_length=8))
    with pytest.raises(InputError, match="holds sequences of 8 tokens"):
        check_corpus(CorpusOptions(records, sequence_length=16))
    with pytest.raises(InputError, match="no file matches"):
        check_corpus(CorpusOptions((str(tmp_path / "none.txt"),)))
    with pytest.raises(InputError, match="no file matches"):
        check_corpus(dataclasses.replace(corpus, validation_corpus=("none.txt",)))


def test_a_tokenizer_is_needed(teacher, corpus, tmp_path):
    assert with_tokenizer(teacher, None) is teacher
    bare = teacher.replace(tokenizer=None)
    with pytest.raises(InputError, match="as tokenizer="):
        with_tokenizer(bare, None)
    with pytest.raises(InputError, match="holds no tokenizer"):
        prepare_corpus(corpus, bare)
    tiny_tokenizer().save(tmp_path)
    found = with_tokenizer(bare, str(tmp_path))
    assert found.tokenizer.fingerprint() == teacher.tokenizer.fingerprint()


def test_a_tokenizer_is_named_like_a_model(teacher, tmp_path, monkeypatch):
    bare = teacher.replace(tokenizer=None)
    for folder in ("words", "some_words/inside"):
        (tmp_path / folder).mkdir(parents=True)
        tiny_tokenizer().save(tmp_path / folder)
    (tmp_path / "some_words/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("~/words", "package:some_words/inside"):
        assert with_tokenizer(bare, name).tokenizer.fingerprint() == teacher.tokenizer.fingerprint()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
