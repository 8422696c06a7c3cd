"""Reading a safetensors file that nobody vouches for.

Layout: 8 bytes little-endian header length, a JSON header with dtype, shape and byte range
of every tensor, then the bytes. Everything the header claims is checked against the file
before any of it is used (format: https://github.com/huggingface/safetensors).
"""

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from etd_tf.checkpoints.gathering import Tensors
from etd_tf.errors import InputError
from etd_tf.types import Array

_MAX_HEADER_BYTES = 100_000_000  # the reference implementation's limit
_MAX_RANK = 8
_BFLOAT16 = "BF16"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    _BFLOAT16: np.dtype("<u2"),  # the upper half of a float32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class _Entry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile(Tensors):
    """The tensors of one file by name, mapped into memory and read on access.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, truncated or not a valid safetensors file.
    """

    kind = "safetensors"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            size = os.path.getsize(self.path)
            with open(self.path, "rb") as file:
                start, header = self._read_header(file, size)
        except OSError as error:
            raise InputError(f"Cannot read {self.path}: {error.strerror}.") from error
        self._entries = self._check_header(header, size - start)
        data_size = size - start
        self._data: Array = (
            np.memmap(self.path, np.uint8, "r", offset=start, shape=(data_size,))
            if data_size
            else np.empty(0, np.uint8)
        )

    def _read_header(self, file: Any, size: int) -> tuple[int, bytes]:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise self._error(f"it has only {size} bytes")
        length = int.from_bytes(prefix, "little")
        if length > min(size - 8, _MAX_HEADER_BYTES):
            raise self._error(f"it claims a header of {length} bytes, but has {size} bytes")
        return 8 + length, file.read(length)

    def _check_header(self, header: bytes, data_size: int) -> dict[str, _Entry]:
        try:
            values = json.loads(header.decode("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise self._error(f"its header is not valid JSON ({error})") from error
        if not isinstance(values, dict):
            raise self._error("its header is not a JSON object")
        values.pop("__metadata__", None)
        entries = {name: self._check_entry(name, value) for name, value in values.items()}
        position = 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
            if entry.begin != position:
                raise self._error(
                    f"tensor {name!r} starts at byte {entry.begin}, expected {position}"
                )
            position = entry.end
        if position != data_size:
            raise self._error(f"its tensors need {position} bytes, but it holds {data_size}")
        return entries

    def _check_entry(self, name: str, value: Any) -> _Entry:
        try:
            dtype, shape = value["dtype"], tuple(value["shape"])
            begin, end = value["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(f"the entry of tensor {name!r} is malformed") from error
        numbers = (*shape, begin, end)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise self._error(f"the entry of tensor {name!r} has a number that is no size")
        if not isinstance(dtype, str):
            raise self._error(f"the entry of tensor {name!r} has a dtype that is no name")
        if dtype not in _DTYPES:
            raise InputError(
                f"{self.path}: tensor {name!r} has dtype {dtype!r}; supported: "
                f"{', '.join(_DTYPES)}. If the model is quantised, pass the one that it was made "
                "of; else save it as float32."
            )
        if len(shape) > _MAX_RANK:
            raise self._error(f"tensor {name!r} has {len(shape)} dimensions")
        needed = math.prod(shape) * _DTYPES[dtype].itemsize
        if end - begin != needed:
            raise self._error(
                f"tensor {name!r} of dtype {dtype} and shape {shape} needs {needed} bytes, "
                f"but claims {end - begin}"
            )
        return _Entry(dtype, shape, begin, end)

    def __getitem__(self, name: str) -> Array:
        """Returns a read-only view of the file; bfloat16 is widened to float32."""
        entry = self._entries[name]
        array = self._data[entry.begin : entry.end].view(_DTYPES[entry.dtype])
        if entry.dtype == _BFLOAT16:
            array = widen_bfloat16(array)
        return array.reshape(entry.shape)


def widen_bfloat16(bits: Array) -> Array:
    """Turns bfloat16 bit patterns (uint16) into float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
