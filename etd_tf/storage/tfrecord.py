"""TFRecord files: `tf.train.Example` written in bulk, and records read at random, checked.

TensorFlow's own writer and reader handle one record at a time and cannot seek; the format
(length, checksum, data, checksum) is public and small. Files are the same as TensorFlow's.
"""

import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from etd_tf.errors import InputError
from etd_tf.storage.crc32c import masked_crc32c
from etd_tf.storage.protobuf import encode_field, encode_varint
from etd_tf.types import Array, IntArray

_HEADER, _FOOTER = 12, 4  # length and its checksum; the data's checksum
_MAX_RECORD = 1 << 20  # bytes of an example; one of 512 tokens has about 5000
_INPUT_IDS, _INPUT_MASK, _SEGMENT_IDS = b"input_ids", b"input_mask", b"segment_ids"


def serialize_examples(token_ids: Array, lengths: Array) -> list[bytes]:
    """Serialises rows as `tf.train.Example` with BERT's pre-training features.

    The bytes are those of `SerializeToString(deterministic=True)`: `input_ids`,
    `input_mask` and `segment_ids` (zeros), int64 `[T]` each.

    Args:
        token_ids: Int `[n, T]`, not negative.
        lengths: Int `[n]`: real tokens of each row; the rest is padding.

    Returns:
        n serialised examples.
    """
    width = token_ids.shape[1]
    packed, starts = _varints(token_ids)
    prefixes: dict[int, bytes] = {}
    suffixes: dict[int, bytes] = {}
    records = []
    for start, end, length in zip(starts[:-1], starts[1:], lengths.tolist(), strict=True):
        ids = packed[start:end]
        if length not in suffixes:
            mask = b"\1" * length + b"\0" * (width - length)
            segments = _entry(_SEGMENT_IDS, b"\0" * width)
            suffixes[length] = _entry(_INPUT_MASK, mask) + segments
        suffix = suffixes[length]
        if len(ids) not in prefixes:
            entry = _entry(_INPUT_IDS, bytes(len(ids)))
            features = encode_varint(len(entry) + len(suffix))  # all suffixes are equally long
            prefixes[len(ids)] = b"\x0a" + features + entry[: len(entry) - len(ids)]
        records.append(prefixes[len(ids)] + ids + suffix)
    return records


def _entry(key: bytes, packed: bytes) -> bytes:
    """One item of `Features.feature`: key and Feature{Int64List{packed}}."""
    value = encode_field(2, encode_field(3, encode_field(1, packed)))
    return encode_field(1, encode_field(1, key) + value)


def _varints(values: Array) -> tuple[bytes, list[int]]:
    """Encodes a matrix row by row; returns the bytes and the n + 1 row boundaries."""
    values = values.astype(np.uint32 if values.max(initial=0) < 1 << 32 else np.uint64)
    groups = 1
    while int(values.max(initial=0)) >> (7 * groups):
        groups += 1
    shifts = np.arange(0, 7 * groups, 7, dtype=values.dtype)
    parts = values[:, :, None] >> shifts  # [n, T, groups], least significant first
    present = parts > 0
    present[:, :, 0] = True
    encoded = parts.astype(np.uint8) & 127
    encoded[:, :, :-1] |= present[:, :, 1:] * np.uint8(128)  # another byte follows
    sizes = present.sum(axis=(1, 2))
    return encoded[present].tobytes(), [0, *np.cumsum(sizes).tolist()]


def frame_records(records: Sequence[bytes]) -> list[bytes]:
    """Adds length and checksums: concatenated, the results are a TFRecord file.

    Args:
        records: Serialised records, at least 4 bytes each.
    """
    lengths = [struct.pack("<Q", len(record)) for record in records]
    length_crcs = masked_crc32c(lengths).astype("<u4").tobytes()
    data_crcs = masked_crc32c(records).astype("<u4").tobytes()
    return [
        b"".join((length, length_crcs[4 * i : 4 * i + 4], record, data_crcs[4 * i : 4 * i + 4]))
        for i, (length, record) in enumerate(zip(lengths, records, strict=True))
    ]


def find_records(path: Path) -> IntArray:
    """Finds where the records of an uncompressed TFRecord file begin.

    Returns:
        Int64 `[records + 1]` offsets; the last one is the file's size.

    Raises:
        InputError: It is not a TFRecord file, or it is cut short or damaged.
    """
    size = path.stat().st_size
    offsets, position = [0], 0
    headers: list[bytes] = []
    if size:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            while position < size:
                header = data[position : position + _HEADER]
                length = int.from_bytes(header[:8], "little")
                position += _HEADER + length + _FOOTER
                if len(header) < _HEADER or position > size:
                    raise _damaged(path, len(headers), "the file is cut short, or no TFRecord file")
                headers.append(header)
                offsets.append(position)
    _check(path, [header[:8] for header in headers], [header[8:] for header in headers])
    return np.array(offsets, np.int64)


def first_record(path: Path, file: IO[bytes]) -> bytes:
    """Reads and checks the record that a stream begins with; empty where there is none.

    Raises:
        InputError: It is not a TFRecord file, or it is cut short or damaged.
    """
    header = file.read(_HEADER)
    length = int.from_bytes(header[:8], "little")
    if not header:
        return b""
    if length > _MAX_RECORD and len(header) == _HEADER:
        _check(path, [header[:8]], [header[8:]])
        raise _damaged(path, 0, f"with {length} bytes it is no training example")
    data, footer = file.read(min(length, _MAX_RECORD)), file.read(_FOOTER)
    if len(header) < _HEADER or len(data) < length or len(footer) < _FOOTER:
        raise _damaged(path, 0, "the file is cut short, or no TFRecord file")
    _check(path, [header[:8]], [header[8:]])
    if length < 4:
        raise _damaged(path, 0, "it does not have the indexed length")
    _check(path, [data], [footer])
    return data


def read_records(path: Path, offsets: IntArray, indices: IntArray) -> list[bytes]:
    """Reads records at random and checks their checksums.

    Args:
        path: An uncompressed TFRecord file.
        offsets: Int64 `[records + 1]`, see `find_records`.
        indices: Int `[k]`: which records.

    Raises:
        InputError: The file is cut short or damaged; the message names it.
    """
    sizes = offsets[indices + 1] - offsets[indices] - _HEADER - _FOOTER
    if sizes.max(initial=0) > _MAX_RECORD:
        longest = int(indices[sizes.argmax()])
        raise _damaged(path, longest, f"with {sizes.max()} bytes it is no training example")
    records, checksums = [], []
    with open(path, "rb", buffering=0) as file:
        places = zip(offsets[indices].tolist(), offsets[indices + 1].tolist(), strict=True)
        for index, (start, end) in zip(indices, places, strict=True):
            frame = os.pread(file.fileno(), end - start, start)
            data = frame[_HEADER:-_FOOTER]
            if int.from_bytes(frame[:8], "little") != len(data) or len(data) < 4:
                raise _damaged(path, int(index), "it does not have the indexed length")
            records.append(data)
            checksums.append(frame[-_FOOTER:])
    _check(path, records, checksums, indices)
    return records


def _check(
    path: Path,
    contents: Sequence[bytes],
    stored: Sequence[bytes],
    indices: IntArray | None = None,
) -> None:
    wrong = np.flatnonzero(masked_crc32c(contents) != np.frombuffer(b"".join(stored), "<u4"))
    if wrong.size:
        index = wrong[0] if indices is None else indices[wrong[0]]
        raise _damaged(path, int(index), "its checksum does not match")


def _damaged(path: Path, index: int, reason: str) -> InputError:
    return InputError(f"{path} is damaged at record {index}: {reason}. {how_to_replace(path)}")


def how_to_replace(path: Path) -> str:
    """What to do about a damaged record file or its index."""
    return (
        "Prepare or copy the file again; if it is an entry of the cache, delete "
        f"{path.parent}, and the next run makes it anew."
    )
