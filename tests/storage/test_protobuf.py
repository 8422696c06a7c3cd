"""Tests of the hand-written pieces of protocol buffers against the library."""

import sys

import pytest
import tensorflow as tf

from etd_tf.storage.protobuf import encode_field, encode_varint


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**14 - 1, 2**14, 2**35 + 5])
def test_numbers_are_read_back(value):
    message = tf.train.Int64List.FromString(encode_field(1, encode_varint(value)))
    assert list(message.value) == [value]


@pytest.mark.parametrize("length", [0, 5, 200, 20_000])
def test_bytes_are_read_back(length):
    content = bytes(range(256))[:length] * (1 + length // 256)
    assert tf.train.BytesList.FromString(encode_field(1, content)).value[0] == content


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
