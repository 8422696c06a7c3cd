"""Tests of CRC-32C."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.storage import crc32c as module
from etd_tf.storage.crc32c import crc32c, masked_crc32c


def bitwise_crc32c(data):
    """The definition: a bit at a time."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_published_vectors():
    # RFC 3720, appendix B.4, and the classic check value.
    data = [b"123456789", bytes(32), b"\xff" * 32, bytes(range(32)), bytes(range(31, -1, -1))]
    expected = [0xE3069283, 0x8A9136AA, 0x62A8AB43, 0x46DD794E, 0x113FDB5C]
    assert crc32c(data).tolist() == expected


@settings(max_examples=40)
@given(st.lists(st.binary(min_size=4, max_size=40), max_size=5))
def test_equals_the_bitwise_definition_for_any_lengths(strings):
    expected = [bitwise_crc32c(string) for string in strings]
    assert crc32c(strings).tolist() == expected
    masked = [((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF for c in expected]
    assert masked_crc32c(strings).tolist() == masked
    assert masked_crc32c(strings).dtype == np.uint32


def test_one_long_string_does_not_make_all_long(monkeypatch):
    monkeypatch.setattr(module, "_MAX_PADDED", 100)
    strings = [b"abcd", bytes(range(200)), b"wxyz1", *[b"12345678"] * 9]
    assert crc32c(strings).tolist() == [bitwise_crc32c(string) for string in strings]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
