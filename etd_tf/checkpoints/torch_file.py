"""`pytorch_model.bin` without PyTorch: both file layouts, weights only.

Since PyTorch 1.6 the file is a zip archive: `NAME/data.pkl` describes the tensors and
`NAME/data/KEY` holds each storage. Before, it was five pickles (magic number, protocol,
system, tensors, storage keys) followed by the storages.
"""

import math
import mmap
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from etd_tf.checkpoints.safetensors_file import widen_bfloat16
from etd_tf.checkpoints.torch_pickle import StorageReference, TensorReference, read_pickle
from etd_tf.errors import InputError
from etd_tf.types import Array

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# What `zipfile` raises for damaged archives, besides its own error.
_BAD_ZIP = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,  # a member beyond what the system can count
    struct.error,
)
_DTYPES: dict[str, np.dtype[Any]] = {
    "Double": np.dtype("<f8"),
    "Float": np.dtype("<f4"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype("<u2"),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
}


class TorchFile(Mapping[str, Array]):
    """The tensors of a `torch.save`d state dictionary, read on access.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, corrupt or holds anything but tensors.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._legacy_offsets: dict[str, int] = {}
        self._members: dict[str, str] = {}
        try:
            zipped = zipfile.is_zipfile(self.path)
            state = self._read_zip() if zipped else self._read_legacy()
        except InputError:  # a ValueError, too
            raise
        except OSError as error:
            raise InputError(f"Cannot read {self.path}: {error.strerror}.") from error
        except _BAD_ZIP as error:
            raise self._error(str(error)) from error
        if not isinstance(state, dict):
            raise self._error(f"it holds a {type(state).__name__}, expected a dictionary")
        self._tensors = {
            name: value
            for name, value in state.items()
            if isinstance(name, str) and isinstance(value, TensorReference)
        }

    def _error(self, problem: str) -> InputError:
        return InputError(
            f"{self.path} is not a usable PyTorch weights file: {problem}. "
            "It may be truncated or corrupt; copy or download it again."
        )

    def _read_zip(self) -> Any:
        with zipfile.ZipFile(self.path) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise self._error("it has no data.pkl")
            folder = pickles[0].removesuffix("data.pkl") + "data/"
            self._members = {
                name.removeprefix(folder): name for name in names if name.startswith(folder)
            }
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise self._error("it has compressed members")
            with archive.open(pickles[0]) as file:
                return read_pickle(file, str(self.path))

    def _read_legacy(self) -> Any:
        source = str(self.path)
        with open(self.path, "rb") as opened:
            if opened.read(1) != b"\x80":
                raise self._error("it is neither a zip archive nor a pickle")
            # Mapped, since a file sets memory aside for whatever length a pickle claims.
            file: Any = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            if read_pickle(file, source) != _LEGACY_MAGIC:
                raise self._error("its magic number is wrong")
            read_pickle(file, source)  # protocol version
            read_pickle(file, source)  # byte order and integer sizes of the machine
            state = read_pickle(file, source)
            keys = read_pickle(file, source)
            sizes = _storage_bytes(state)
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise self._error("its list of storages is none")
            position = file.tell()
            for key in keys:
                self._legacy_offsets[key] = position + 8  # after the element count, again
                position += 8 + sizes.get(key, 0)
        return state

    def _read_storage(self, storage: StorageReference) -> Array:
        dtype = _DTYPES[storage.kind]
        needed = storage.size * dtype.itemsize
        if storage.key in self._members:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    data = archive.read(self._members[storage.key])
            except _BAD_ZIP as error:
                raise self._error(str(error)) from error
        elif storage.key in self._legacy_offsets:
            data = self._read_at(self._legacy_offsets[storage.key], needed)
        else:
            raise self._error(f"storage {storage.key!r} is missing")
        if len(data) < needed:
            raise self._error(
                f"storage {storage.key!r} has {len(data)} bytes, but {needed} are claimed"
            )
        return np.frombuffer(data, dtype, storage.size)

    def _read_at(self, offset: int, size: int) -> bytes:
        with open(self.path, "rb") as file:
            available = _size(file) - offset
            file.seek(offset)
            return file.read(min(size, max(available, 0)))

    def __getitem__(self, name: str) -> Array:
        """Reads one tensor; bfloat16 is widened to float32."""
        tensor = self._tensors[name]
        values = self._read_storage(tensor.storage)
        if tensor.storage.kind == "BFloat16":
            values = widen_bfloat16(values)
        count = math.prod(tensor.shape)
        if count == 0:
            try:
                return np.empty(tensor.shape, values.dtype)
            except ValueError as error:
                raise self._error(f"tensor {name!r} has no possible shape") from error
        spans = [(n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True)]
        if count > values.size or tensor.offset + sum(spans) >= values.size:
            raise self._error(f"tensor {name!r} reaches beyond its storage")
        strides = tuple(stride * values.itemsize for stride in tensor.stride)
        return np.lib.stride_tricks.as_strided(
            values[tensor.offset :], tensor.shape, strides, writeable=False
        )

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _storage_bytes(state: Any) -> dict[str, int]:
    """Maps storage keys to their sizes in bytes."""
    tensors = state.values() if isinstance(state, dict) else []
    storages = [value.storage for value in tensors if isinstance(value, TensorReference)]
    return {s.key: s.size * _DTYPES[s.kind].itemsize for s in storages}


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)
