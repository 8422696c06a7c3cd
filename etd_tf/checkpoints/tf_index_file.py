"""Checking the index of a TensorFlow checkpoint before TensorFlow sees it.

TensorFlow ends the whole process where an entry of the index is malformed. So the table is
parsed here first and every entry compared with the data files. The layout is LevelDB's table:
blocks of prefix-compressed keys with a checksum each, an index of the blocks, a footer (see
tensorflow/core/lib/io/format.h and tensorflow/core/protobuf/tensor_bundle.proto).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.crc32c import masked_crc32c

_FOOTER, _TRAILER = 48, 5  # bytes; a block's trailer is its compression and checksum
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_MAX_BYTES = 64 << 20
_MAX_RANK = 8
_MAX_SHARDS = 10_000


def check_index(prefix: Path) -> None:
    """Checks that every entry of a checkpoint's index fits its data files.

    Args:
        prefix: The checkpoint's path without `.index`.

    Raises:
        InputError: The index cannot be read, is damaged, or holds what no checkpoint of BERT
            has, such as variables cut into slices.
    """
    from google.protobuf.message import DecodeError

    path = Path(f"{prefix}.index")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        _check_entries(prefix, dict(_table(path.read_bytes())))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, IndexError, DecodeError) as error:
        raise InputError(
            f"{path} is not a readable TensorFlow checkpoint index ({error}). It may be "
            "truncated or corrupt; copy or download it again."
        ) from error


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and values of the table, in order."""
    if len(data) < _FOOTER or data[-8:] != _MAGIC:
        raise ValueError("no table ends where the file ends")
    place = len(data) - _FOOTER
    _, place = _handle(data, place)  # of properties, which nobody reads
    (start, size), _ = _handle(data, place)
    previous = None
    for _, handle in _block(data, start, size):
        (at, length), _ = _handle(handle, 0)
        for key, value in _block(data, at, length):
            if previous is not None and key <= previous:
                raise ValueError("its keys are not in order")
            previous = key
            yield key, value


def _block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = start + size
    if end + _TRAILER > len(data) - _FOOTER or size < 8:
        raise ValueError("a block lies outside of the file")
    if data[end] != 0:
        raise ValueError("a block is compressed")
    stored = int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    if int(masked_crc32c([data[start : end + 1]])[0]) != stored:
        raise ValueError("a block's checksum does not match")
    last = end - 4 - 4 * int.from_bytes(data[end - 4 : end], "little")
    key, place = b"", start
    while place < last:
        shared, place = _varint(data, place)
        unshared, place = _varint(data, place)
        length, place = _varint(data, place)
        if shared > len(key) or place + unshared + length > last:
            raise ValueError("an entry lies outside of its block")
        key = key[:shared] + data[place : place + unshared]
        place += unshared
        yield key, data[place : place + length]
        place += length
    if place != last:
        raise ValueError("a block is cut short")


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return (offset, size), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 63, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number has no end")


def _check_entries(prefix: Path, table: dict[bytes, bytes]) -> None:
    from tensorflow.core.protobuf import tensor_bundle_pb2

    header = tensor_bundle_pb2.BundleHeaderProto.FromString(table.pop(b"", b""))
    shards = header.num_shards
    if not 0 < shards <= _MAX_SHARDS or header.endianness != header.LITTLE:
        raise ValueError("its header is none")
    sizes: dict[int, int] = {}
    for key, value in table.items():
        name = key.decode("utf-8")
        entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
        if entry.slices:
            raise ValueError(f"variable {name} is cut into slices, which is not supported")
        if not 0 <= entry.shard_id < shards:
            raise ValueError(f"{name} lies in data file {entry.shard_id} of {shards}")
        if entry.shard_id not in sizes:
            data = Path(f"{prefix}.data-{entry.shard_id:05d}-of-{shards:05d}")
            sizes[entry.shard_id] = data.stat().st_size
        _check_entry(name, entry, sizes[entry.shard_id])


def _check_entry(name: str, entry: Any, available: int) -> None:
    import tensorflow as tf

    dims = [dim.size for dim in entry.shape.dim]
    if entry.shape.unknown_rank or len(dims) > _MAX_RANK or min(dims, default=0) < 0:
        raise ValueError(f"{name} has no shape")
    if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > available:
        raise ValueError(f"{name} lies outside of its data file")
    try:
        dtype = tf.dtypes.as_dtype(entry.dtype)
    except TypeError as error:
        raise ValueError(f"{name} is of an unknown type") from error
    numeric = dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex
    if numeric and math.prod(dims) * dtype.size != entry.size:
        raise ValueError(f"{name} has {entry.size} bytes, which do not fit its shape {dims}")
