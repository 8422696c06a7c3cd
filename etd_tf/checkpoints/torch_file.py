"""`pytorch_model.bin` without PyTorch: a zip archive, weights only.

`NAME/data.pkl` describes the tensors and `NAME/data/KEY` holds each storage. What PyTorch
wrote before version 1.6 (2020) is refused.
"""

import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.checkpoints.gathering import Tensors
from etd_tf.checkpoints.safetensors_file import widen_bfloat16
from etd_tf.checkpoints.torch_pickle import StorageReference, TensorReference, read_pickle
from etd_tf.errors import InputError
from etd_tf.types import Array

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


class TorchFile(Tensors):
    """The tensors of a `torch.save`d state dictionary, read on access.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, corrupt or holds anything but tensors.
    """

    kind = "PyTorch weights"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._members: dict[str, str] = {}
        try:
            with open(self.path, "rb") as file:
                if file.read(1) == b"\x80":
                    raise InputError(
                        f"{self.path} has the layout of PyTorch before version 1.6. Load the model "
                        "with Transformers and save it again: model.save_pretrained(directory)."
                    )
            state = self._read_zip()
        except InputError:  # a ValueError, too
            raise
        except OSError as error:
            raise InputError(f"Cannot read {self.path}: {error.strerror}.") from error
        except _BAD_ZIP as error:
            raise self._error(str(error)) from error
        if not isinstance(state, dict):
            raise self._error(f"it holds a {type(state).__name__}, expected a dictionary")
        self._entries = _tensors(state)
        if not _of_a_module(self._entries):  # {"state_dict": ...}, as training scripts save it
            self._entries = self._inner(state) or self._entries

    def _inner(self, state: Mapping[Any, Any]) -> dict[str, TensorReference]:
        inner = {key: _tensors(value) for key, value in state.items() if isinstance(value, dict)}
        inner = {key: tensors for key, tensors in inner.items() if _of_a_module(tensors)}
        if len(inner) > 1:
            raise InputError(
                f"{self.path} holds several state dictionaries: {', '.join(map(str, inner))}. "
                "Save the model's own: torch.save(model.state_dict(), path)."
            )
        return next(iter(inner.values()), {})

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

    def _read_storage(self, storage: StorageReference) -> Array:
        dtype = _DTYPES[storage.kind]
        needed = storage.size * dtype.itemsize
        if storage.key not in self._members:
            raise self._error(f"storage {storage.key!r} is missing")
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = archive.read(self._members[storage.key])
        except _BAD_ZIP as error:
            raise self._error(str(error)) from error
        if len(data) < needed:
            raise self._error(
                f"storage {storage.key!r} has {len(data)} bytes, but {needed} are claimed"
            )
        return np.frombuffer(data, dtype, storage.size)

    def __getitem__(self, name: str) -> Array:
        """Reads one tensor; bfloat16 is widened to float32."""
        tensor = self._entries[name]
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


def _tensors(state: Mapping[Any, Any]) -> dict[str, TensorReference]:
    return {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, TensorReference)
    }


def _of_a_module(tensors: Mapping[str, TensorReference]) -> bool:
    """Whether these are weights of a model; unlike counters, they have dotted names."""
    return any("." in name for name in tensors)
