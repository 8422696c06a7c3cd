"""Tests of sentence vectors on disk: found by number, checked, and made again where damaged."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.text.vectors import VectorStore

SIZE = 5


def _tokens(records):
    return (np.asarray(records)[:, None] * 7 + np.arange(4)).astype(np.int32)


def _vectors(records):
    return np.random.default_rng(0).normal(size=(100, SIZE))[records].astype(np.float32)


def _filled(folder, *groups):
    store = VectorStore(folder, SIZE)
    for group in groups:
        records = np.asarray(group)
        store.add("train", records, _tokens(records), _vectors(records))
    return store


def test_vectors_are_found_by_number_whatever_the_order(tmp_path):
    _filled(tmp_path, [3, 9, 50], [0, 4], [99])
    store = VectorStore(tmp_path, SIZE)  # as another process finds them
    records = np.array([50, 0, 99, 3, 50])
    found = store.read("train", records, _tokens(records))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, _vectors(records).astype(np.float16))


def test_only_missing_records_are_told(tmp_path):
    store = _filled(tmp_path, [3, 9], [0])
    np.testing.assert_array_equal(store.missing("train", np.array([9, 8, 0, 1])), [1, 8])
    np.testing.assert_array_equal(store.missing("validation", np.array([3])), [3])
    with pytest.raises(InputError, match="no vector of record 8"):
        store.read("train", np.array([8]), _tokens([8]))


@pytest.mark.parametrize("place", [-1, -SIZE * 2 - 1, -SIZE * 2 - 5])
def test_a_flipped_bit_is_found_when_it_is_read(tmp_path, place):
    _filled(tmp_path, [3, 9])
    (path,) = (tmp_path / "train").iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 4  # of the last record: its vector, its checksum, its number
    path.write_bytes(content)
    store = VectorStore(tmp_path, SIZE)
    with pytest.raises(InputError, match=r"000000.npy is damaged.*Remove the file|no vector of"):
        store.read("train", np.array([3, 9]), _tokens([3, 9]))


def test_a_vector_of_other_tokens_is_refused(tmp_path):
    store = _filled(tmp_path, [3, 9])
    with pytest.raises(InputError, match="train record 3 is not what was written"):
        store.read("train", np.array([3]), _tokens([9]))


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_damaged_files_are_said_and_their_vectors_missing(tmp_path, caplog, content):
    _filled(tmp_path, [3, 9], [4])
    path = tmp_path / "train" / "000000.npy"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    store = VectorStore(tmp_path, SIZE)
    np.testing.assert_array_equal(store.missing("train", np.array([3, 4, 9])), [3, 9])
    assert "000000.npy is damaged; its vectors are computed again" in caplog.text
    assert not path.exists()


def test_vectors_of_another_size_are_no_vectors(tmp_path):
    _filled(tmp_path, [3])
    store = VectorStore(tmp_path, SIZE + 1)
    np.testing.assert_array_equal(store.missing("train", np.array([3])), [3])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
