"""CRC-32C (Castagnoli), the checksum inside TFRecord files, for many strings at once."""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # reflected
_MASK_DELTA = 0xA282EAD8
_MAX_PADDED = 64 << 20  # bytes


@functools.cache
def _tables() -> npt.NDArray[np.uint32]:
    """`[8, 256]`: the effect of a byte that is followed by 0 to 7 zero bytes."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    tables = [table]
    for _ in range(7):
        tables.append((tables[-1] >> 8) ^ table[tables[-1] & 0xFF])
    return np.stack(tables)


def crc32c(strings: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """Computes CRC-32C of each string.

    Args:
        strings: Byte strings of at least 4 bytes.

    Returns:
        Uint32 `[len(strings)]`.

    Source: RFC 3720, appendix B.4.
    """
    if not strings:
        return np.zeros(0, np.uint32)
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    width = -(-int(lengths.max()) // 8) * 8
    if width * len(strings) > _MAX_PADDED + 4 * int(lengths.sum()):  # few are long, most short
        order = np.argsort(lengths, kind="stable")
        result = np.empty(len(strings), np.uint32)
        for part in np.array_split(order, 2):
            result[part] = crc32c([strings[index] for index in part])
        return result
    # Zero bytes in front do not change a register of zero. So the strings are aligned at
    # their ends, and the register's initial ones are folded into their first four bytes.
    aligned = b"".join(string.rjust(width, b"\0") for string in strings)
    matrix = np.frombuffer(bytearray(aligned), np.uint8).reshape(len(strings), width)
    first = (width - lengths)[:, None] + np.arange(4)
    matrix[np.arange(len(strings))[:, None], first] ^= 0xFF
    words = np.ascontiguousarray(matrix.view("<u4").T)
    tables = _tables()
    register = np.zeros(len(strings), np.uint32)
    for low, high in zip(words[0::2], words[1::2], strict=True):
        mixed = low ^ register
        register = tables[7][mixed & 0xFF] ^ tables[6][(mixed >> 8) & 0xFF]
        register ^= tables[5][(mixed >> 16) & 0xFF] ^ tables[4][mixed >> 24]
        register ^= tables[3][high & 0xFF] ^ tables[2][(high >> 8) & 0xFF]
        register ^= tables[1][(high >> 16) & 0xFF] ^ tables[0][high >> 24]
    return ~register


def masked_crc32c(strings: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """The checksum as TFRecord files store it: rotated and shifted by a constant."""
    value = crc32c(strings)
    rotated = (value >> np.uint32(15)) | (value << np.uint32(17))
    return rotated + np.uint32(_MASK_DELTA)
