"""Tests of TFRecord files against TensorFlow's own reader and writer."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.storage.crc32c import masked_crc32c
from etd_tf.storage.tfrecord import find_records, frame_records, read_records, serialize_examples


def tensorflow_example(**features):
    lists = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        for name, values in features.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=lists))
    return example.SerializeToString(deterministic=True)


@settings(max_examples=40)
@given(st.data())
def test_serialises_the_bytes_that_tensorflow_does(data):
    width = data.draw(st.sampled_from([1, 5, 60, 140]))
    ids = st.sampled_from([0, 1, 127, 128, 16383, 16384, 30521, 2**21, 2**31 - 1, 2**40])
    rows = data.draw(st.lists(st.lists(ids, min_size=width, max_size=width), max_size=3))
    lengths = [data.draw(st.integers(0, width)) for _ in rows]
    expected = [
        tensorflow_example(
            input_ids=row,
            input_mask=[1] * length + [0] * (width - length),
            segment_ids=[0] * width,
        )
        for row, length in zip(rows, lengths, strict=True)
    ]
    token_ids = np.array(rows, np.int64).reshape(len(rows), width)
    assert serialize_examples(token_ids, np.array(lengths, np.int64)) == expected


@pytest.fixture
def written(tmp_path):
    generator = np.random.default_rng(0)
    records = [generator.bytes(int(size)) for size in generator.integers(4, 300, 37)]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(frame_records(records)))
    return path, records


def test_tensorflow_reads_our_files(written):
    path, records = written
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == records


def test_we_read_tensorflow_s_files_in_any_order(tmp_path, written):
    _, records = written
    path = tmp_path / "b.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    assert path.read_bytes() == b"".join(frame_records(records))
    offsets = find_records(path)
    assert (len(offsets), offsets[0], offsets[-1]) == (38, 0, path.stat().st_size)
    order = np.array([36, 0, 7, 7, 20])
    assert read_records(path, offsets, order) == [records[i] for i in order]


def test_empty_file_has_no_records(tmp_path):
    path = tmp_path / "empty.tfrecord"
    path.write_bytes(b"")
    assert find_records(path).tolist() == [0]


@pytest.mark.parametrize("place", [14, 20, -1])
def test_a_flipped_bit_is_found_and_the_file_named(written, place):
    path, _ = written
    offsets = find_records(path)
    content = bytearray(path.read_bytes())
    content[int(offsets[-2]) + place if place > 0 else place] ^= 8
    path.write_bytes(content)
    read_records(path, offsets, np.arange(36))
    with pytest.raises(InputError, match=r"a\.tfrecord is damaged at record 36: its checksum"):
        read_records(path, offsets, np.array([3, 36]))


def test_a_short_file_is_found_and_named(written):
    path, _ = written
    offsets = find_records(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"a\.tfrecord is damaged at record 36.*cut short"):
        find_records(path)
    with pytest.raises(InputError, match="record 36: it does not have the indexed length"):
        read_records(path, offsets, np.array([36]))


def test_a_record_of_megabytes_is_refused(tmp_path):
    path = tmp_path / "a.tfrecord"
    length = (2 << 20).to_bytes(8, "little")
    checksum = int(masked_crc32c([length])[0]).to_bytes(4, "little")
    path.write_bytes(length + checksum + bytes((2 << 20) + 4))
    with pytest.raises(InputError, match="record 0: with 2097152 bytes it is no training example"):
        read_records(path, find_records(path), np.array([0]))


def test_other_files_are_no_records(tmp_path):
    path = tmp_path / "text.tfrecord"
    path.write_text("Once upon a time there was a file of plain text.", "utf-8")
    with pytest.raises(InputError, match="or no TFRecord file"):
        find_records(path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
