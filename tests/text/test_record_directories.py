"""Tests of opening records of all kinds."""

import dataclasses
import fcntl
import gzip
import json
import shutil
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import cached_records, prepare_records
from etd_tf.text.record_directories import is_record_path, open_records
from tests.helpers import tiny_tokenizer


def example(row, *, ids="input_ids", types="segment_ids", length=6, masked=True):
    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        ids: integers([row] * length),
        "input_mask": integers([1] * (length - 1) + [0]),
        types: integers([0, 1] * (length // 2)),
        "next_sentence_labels": integers([1]),
    }
    if masked:
        features["masked_lm_positions"] = integers([1, 3, 0])
        features["masked_lm_ids"] = integers([row + 7, 9, 0])
        features["masked_lm_weights"] = tf.train.Feature(
            float_list=tf.train.FloatList(value=[1.0, 1.0, 0.0])
        )
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("names", [{}, {"ids": "input_word_ids", "types": "input_type_ids"}])
def test_reads_bert_and_tf_models_records(tmp_path, compression, names):
    write(tmp_path / "a.tfrecord", [example(i, **names) for i in range(5)], compression)
    write(tmp_path / "b.tfrecord", [example(i, **names) for i in range(5, 8)], compression)
    write(tmp_path / "valid.tfrecord", [example(50, **names)], compression)
    records = open_records(tmp_path, cache_dir=tmp_path / "cache")
    assert (records.num_examples(), records.num_examples("validation")) == (8, 1)
    batch = records.read("train", np.array([7, 0, 4, 5]))
    np.testing.assert_array_equal(batch["token_ids"][:, 0], [7, 0, 4, 5])
    np.testing.assert_array_equal(batch["segment_ids"][0], [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(batch["padding_mask"][0], [1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(batch["masked_lm_ids"][:2], [[14, 9, 0], [7, 9, 0]])
    np.testing.assert_array_equal(batch["masked_lm_positions"][0], [1, 3, 0])
    assert {key: (v.dtype, v.shape[1]) for key, v in batch.items()} == {
        "token_ids": (np.int32, 6),
        "segment_ids": (np.int32, 6),
        "padding_mask": (np.int32, 6),
        "masked_lm_positions": (np.int32, 3),
        "masked_lm_ids": (np.int32, 3),
        "masked_lm_weights": (np.float32, 3),
    }


def test_glob_of_records_without_targets(tmp_path):
    write(tmp_path / "a.tfrecord-00000", [example(1, masked=False)])
    write(tmp_path / "b.other", [])
    records = open_records(f"{tmp_path}/*.tfrecord*")
    assert sorted(records.read("train", np.zeros(1, int))) == [
        "padding_mask",
        "segment_ids",
        "token_ids",
    ]
    with pytest.raises(InputError, match=r"has no validation split.*validation_corpus=FILES"):
        records.num_examples("validation")


def test_lengths_found_are_named(tmp_path):
    write(tmp_path / "a.tfrecord", [example(1), example(2, length=4), example(3)])
    with pytest.raises(InputError, match="sequence_length=6"):
        open_records(tmp_path, sequence_length=128)
    records = open_records(tmp_path)
    with pytest.raises(InputError, match=r"expected 6 values of \w+, found \[4, 6\]"):
        records.read("train", np.arange(3))


@pytest.mark.parametrize("wrong", [tiny_tokenizer().vocab_size, 2**33 + 5, -1])
def test_ids_beyond_the_vocabulary_are_refused(wrong, tmp_path):
    last = tiny_tokenizer().vocab_size - 1
    write(tmp_path / "a.tfrecord", [example(row, masked=False) for row in (last, wrong)])
    options = RecordOptions(sequence_length=6)
    records = cached_records([str(tmp_path)], tiny_tokenizer(), options=options)
    assert records.read("train", np.array([0]))["token_ids"].tolist() == [[last] * 6]
    message = f"Record 1 of {tmp_path}/a.tfrecord holds {wrong} in token_ids.*0 to {last} are known"
    with pytest.raises(InputError, match=message):
        records.read("train", np.array([0, 1]))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("segment_ids", -1), ("segment_ids", 2), ("masked_lm_positions", 6), ("masked_lm_ids", -100)],
)
def test_other_ids_out_of_range_are_refused_by_file_and_record(name, wrong, tmp_path):
    bad = tf.train.Example.FromString(example(7))
    bad.features.feature[name].int64_list.value[1] = wrong
    write(tmp_path / "a.tfrecord", [example(7)])
    write(tmp_path / "b.tfrecord", [example(7), bad.SerializeToString()])
    records = dataclasses.replace(open_records(tmp_path), num_segments=2)
    assert len(records.read("train", np.arange(2))["token_ids"]) == 2
    with pytest.raises(InputError, match=f"Record 1 of .*b.tfrecord holds {wrong} in {name}"):
        records.read("train", np.array([0, 2]))


def test_lengths_of_targets_are_named(tmp_path):
    plain = tf.train.Example.FromString(example(1))
    del plain.features.feature["masked_lm_ids"].int64_list.value[2:]
    write(tmp_path / "a.tfrecord", [example(1), plain.SerializeToString()])
    with pytest.raises(InputError, match=r"expected 3 values of masked_lm_ids, found \[2, 3\]"):
        open_records(tmp_path).read("train", np.arange(2))


def test_folders_with_the_signs_of_a_glob(tmp_path):
    folder = tmp_path / "data[1]"
    folder.mkdir()
    write(folder / "a.tfrecord", [example(1)])
    assert is_record_path(folder)
    assert open_records(folder).num_examples() == 1


def test_halves_of_killed_processes_leave_the_cache(tmp_path):
    write(tmp_path / "a.tfrecord", [example(1)], "GZIP")
    open_records(tmp_path, cache_dir=tmp_path / "cache")
    (made,) = (tmp_path / "cache" / "unzipped").iterdir()
    made.unlink()
    dead, alive = (made.with_name(f".{made.stem}-{name}") for name in ("dead", "alive"))
    dead.touch()
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        open_records(tmp_path, cache_dir=tmp_path / "cache")
    assert sorted(made.parent.iterdir()) == sorted([alive, made])


def test_damage_in_the_cache_says_what_to_delete(tmp_path):
    """Both of a record and of its index."""
    corpus = tmp_path / "a.txt"
    corpus.write_text("\n\n".join(f"the cat sat on the mat {n}" for n in range(99)))
    made = cached_records([str(corpus)], tiny_tokenizer(), cache_dir=tmp_path / "cache")
    shard = made.shards["train"][0]
    index = np.load(shard.index_path)
    index[1] += 1
    np.save(shard.index_path, index)
    with pytest.raises(InputError, match=f"delete {shard.path.parent}, and the next run"):
        open_records(shard.path.parent).read("train", np.arange(1))
    shard.index_path.write_bytes(b"")
    with pytest.raises(InputError, match=f"delete {shard.path.parent}, and the next run"):
        open_records(shard.path.parent).read("train", np.arange(1))


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    write(tmp_path / "a.tfrecord", [example(1)], "GZIP")
    with pytest.raises(InputError, match="Cannot open /dev/null/x"):
        open_records(tmp_path, cache_dir="/dev/null/x")


def test_refuses_what_is_not_pretraining_data(tmp_path):
    with pytest.raises(InputError, match=r"etd_prepare --corpus"):
        open_records(tmp_path)
    write(tmp_path / "a.tfrecord", [b"no example at all"])
    with pytest.raises(InputError, match="no feature input_ids or input_word_ids"):
        open_records(tmp_path)
    write(tmp_path / "a.tfrecord", [])
    with pytest.raises(InputError, match="are empty"):
        open_records(tmp_path)


def test_damaged_gzip_is_named_and_leaves_nothing(tmp_path):
    write(tmp_path / "a.tfrecord", [example(i) for i in range(50)], "GZIP")
    content = (tmp_path / "a.tfrecord").read_bytes()
    assert gzip.decompress(content)
    (tmp_path / "a.tfrecord").write_bytes(content[:-20])
    with pytest.raises(InputError, match=r"a\.tfrecord is damaged or cut short"):
        open_records(tmp_path, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("unzipped/*"))


def test_unzipping_does_not_fill_the_disk(tmp_path, monkeypatch):
    write(tmp_path / "a.tfrecord", [example(i) for i in range(50)], "GZIP")
    free = 1 << 40
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    assert open_records(tmp_path, cache_dir=tmp_path / "roomy").num_examples() == 50

    free = 1 << 20
    with pytest.raises(InputError, match=r"a\.tfrecord does not fit unzipped .* cache_dir="):
        open_records(tmp_path, cache_dir=tmp_path / "full")
    assert not list((tmp_path / "full" / "unzipped").iterdir())


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"the cat {i}" for i in range(9)), "utf-8")
    options = RecordOptions(sequence_length=9, held_out_fraction=0.3)
    prepare_records(str(tmp_path / "a.txt"), tiny_tokenizer(), tmp_path / "out", options=options)
    return tmp_path / "out"


def test_changed_files_are_found_when_opening(prepared):
    path = prepared / "train-00000-of-00001.tfrecord"
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(InputError, match=rf"train-00000.* has {len(content) - 7} bytes"):
        open_records(prepared)
    path.unlink()
    with pytest.raises(InputError, match=r"train-00000-of-00001\.tfrecord is missing"):
        open_records(prepared)


def test_a_flipped_bit_is_found_when_reading(prepared):
    path = prepared / "train-00000-of-00001.tfrecord"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    records = open_records(prepared)
    with pytest.raises(InputError, match=r"train-00000-of-00001\.tfrecord is damaged at record 0"):
        records.read("train", np.arange(2))


def test_damaged_manifest_and_index(prepared):
    index = prepared / "train-00000-of-00001.offsets.npy"
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(InputError, match=r"offsets\.npy is missing or damaged"):
        open_records(prepared).num_examples()
    manifest = json.loads((prepared / "manifest.json").read_text("utf-8"))
    del manifest["shards"]
    for text in (json.dumps(manifest), "{", "[]"):
        (prepared / "manifest.json").write_text(text, "utf-8")
        with pytest.raises(InputError, match=r"manifest\.json is damaged"):
            open_records(prepared)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": []},
        {"shards": {"train": [{"name": "../out/x.tfrecord", "bytes": 1}]}},
        {"options": {"sequence_length": 10**12}},
        {"options": {"sequence_length": "9"}},
    ],
)
def test_a_manifest_of_someone_else_is_refused(prepared, change):
    manifest = json.loads((prepared / "manifest.json").read_text("utf-8"))
    (prepared / "manifest.json").write_text(json.dumps(manifest | change), "utf-8")
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        open_records(prepared)


@pytest.mark.parametrize(
    "offsets",
    [
        np.array([0, -5, 10**12]),
        np.array([0.0, 1.0]),
        np.array([[0, 1]]),
        np.array(0),
        np.zeros(0, np.int64),
        np.array([0, 7, 7]),
    ],
)
def test_an_index_of_another_file_is_refused(prepared, offsets):
    np.save(prepared / "train-00000-of-00001.offsets.npy", offsets)
    with pytest.raises(InputError, match=r"is no index of train-00000-of-00001\.tfrecord"):
        open_records(prepared).num_examples()


def test_damaged_records_behind_good_checksums_are_refused(tmp_path):
    damaged = example(1).replace(b"input_mask", b"input_\xa9\xa9\xa9\xa9")
    write(tmp_path / "a.tfrecord", [example(0), damaged])
    with pytest.raises(InputError, match="do not fit its first one"):
        open_records(tmp_path).read("train", np.arange(2))


def test_feature_names_that_are_not_utf8_are_refused(tmp_path):
    record = example(1).replace(b"input_ids", b"input\xff\xffds")
    write(tmp_path / "a.tfrecord", [record])
    with pytest.raises(InputError, match=r"nothing that tf\.train\.Example reads"):
        open_records(tmp_path)


def test_another_tokenizer_is_refused(prepared):
    records = open_records(prepared)
    records.check_tokenizer(tiny_tokenizer().fingerprint())
    with pytest.raises(InputError, match="etd_prepare --tokenizer=MODEL_DIR"):
        records.check_tokenizer("another")


def test_tells_records_from_text(prepared, tmp_path):
    assert is_record_path(prepared)
    assert is_record_path("x/*.tfrecord")
    assert not is_record_path(tmp_path)
    assert not is_record_path(tmp_path / "a.txt")
    assert not is_record_path("stdlib:pydoc")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
