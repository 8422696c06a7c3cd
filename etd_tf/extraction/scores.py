"""Unit scores: how much each prunable unit of a teacher matters."""

import dataclasses
import io
import json
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.atomic import write_atomically
from etd_tf.text.vectors import UNREADABLE
from etd_tf.types import Array

ARRAYS = ("hidden", "ffn", "query_key", "value", "heads")
_FORMAT = "etd_tf unit scores 1"
# Of arrays in an archive, whose parts are read one by one.
_UNREADABLE = (*UNREADABLE, LookupError, RuntimeError, zlib.error, struct.error)


@dataclasses.dataclass(frozen=True, eq=False)
class UnitScores:
    """Non-negative scores of all prunable units; higher means more important.

    Scores are comparable only inside one set: the hidden channels, one layer's neurons,
    one head's dims, one layer's heads. They do not depend on the student's size, so one
    file serves every student of a teacher.

    Attributes:
        hidden: `[H]`, channels of the residual stream.
        ffn: `[L, F]`, feed-forward neurons.
        query_key: `[L, N, D]`, dims shared by queries and keys.
        value: `[L, N, D]`, dims of values and of the output kernel's rows.
        heads: `[L, N]`, whole heads.
        metric: How they were computed: `"taylor"`, `"magnitude"`, ...
        loss: The loss behind them: `"mlm"`, `"reconstruction"` or `"none"`.
        num_examples: Number of sequences scored.
        probes: Random probes or maskings a sequence.
        seed: Seed of probes and maskings.
        teacher_fingerprint: `Checkpoint.fingerprint()` of the scored teacher.

    Raises:
        InputError: Shapes do not fit together, or a score is negative or not finite.
    """

    hidden: Array
    ffn: Array
    query_key: Array
    value: Array
    heads: Array
    metric: str
    loss: str = "none"
    num_examples: int = 0
    probes: int = 1
    seed: int = 0
    teacher_fingerprint: str | None = None

    def __post_init__(self) -> None:
        for name in ARRAYS:
            array = np.array(getattr(self, name))
            if array.dtype.kind not in "fiu":
                raise InputError(f"Unit scores {name} are {array.dtype}, expected numbers.")
            array = array.astype(np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            if not np.isfinite(array).all() or (array < 0).any():
                raise InputError(
                    f"Unit scores {name} must be finite and not negative. The teacher's weights "
                    "or the scored examples are broken."
                )
        self._check_shapes()

    def _check_shapes(self) -> None:
        shapes = {name: getattr(self, name).shape for name in ARRAYS}
        fits = [len(shapes[name]) for name in ARRAYS] == [1, 2, 3, 3, 2]
        if fits:
            layers, heads, size = shapes["query_key"]
            fits = (
                shapes["value"] == (layers, heads, size)
                and shapes["heads"] == (layers, heads)
                and shapes["ffn"][0] == layers
                and shapes["hidden"] == (heads * size,)
            )
        if not fits:
            raise InputError(
                f"Unit scores do not fit together: {shapes}. Expected hidden [N*D], ffn [L, F], "
                "query_key and value [L, N, D], heads [L, N]."
            )

    def check_teacher(self, config: BertConfig) -> None:
        """Checks that the scores belong to a teacher of this architecture."""
        layers, heads, size = self.query_key.shape
        mine = (layers, heads * size, heads, self.ffn.shape[1])
        theirs = (
            config.num_layers,
            config.hidden_size,
            config.num_heads,
            config.intermediate_size,
        )
        if mine != theirs:
            raise InputError(
                "The scores are of another model: (layers, hidden, heads, intermediate) is "
                f"{mine} in the scores and {theirs} in the teacher. Score this teacher again."
            )

    def save(self, path: str | Path) -> None:
        """Writes one `.npz` file, atomically."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        np.savez(buffer, metadata=np.array(json.dumps(self._metadata())), **arrays)
        write_atomically(path, buffer.getvalue())

    def _metadata(self) -> dict[str, Any]:
        fields = [field.name for field in dataclasses.fields(self) if field.name not in ARRAYS]
        return {"format": _FORMAT} | {name: getattr(self, name) for name in fields}

    @classmethod
    def load(cls, path: str | Path) -> "UnitScores":
        """Reads what `save` wrote; never unpickles.

        Raises:
            InputError: The file is missing, truncated, corrupt or not a score file; the
                message names it.
        """
        try:
            arrays, metadata = _read(Path(path))
        except _UNREADABLE as error:
            raise InputError(
                f"{path} cannot be read as unit scores ({error}). Delete it and score again."
            ) from error
        if not isinstance(metadata, dict) or metadata.pop("format", None) != _FORMAT:
            raise InputError(f"{path} is not a unit score file of this version. Score again.")
        try:
            return cls(**arrays, **_checked_metadata(metadata))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> tuple[dict[str, Any], Any]:
    size = path.stat().st_size  # the system's own words for a missing file
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > size:
            raise ValueError("it is compressed, or larger inside than outside")
        arrays = {name: _parse_array(archive.read(f"{name}.npy")) for name in ARRAYS}
        return arrays, json.loads(str(_parse_array(archive.read("metadata.npy"))))


def _parse_array(content: bytes) -> Array:
    """Reads an `.npy` file of numbers or text; never sets aside more memory than it has."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of an unknown version")
    shape, column_major, dtype = np.lib.format.read_array_header_1_0(file)
    data = content[file.tell() :]
    if dtype.kind not in "fiuU" or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of {dtype} that does not have the bytes for {shape}")
    array: Array = np.ndarray(shape, dtype, data, order="F" if column_major else "C")
    return array


def _checked_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    types: dict[str, tuple[type, ...]] = {
        "metric": (str,),
        "loss": (str,),
        "num_examples": (int,),
        "probes": (int,),
        "seed": (int,),
        "teacher_fingerprint": (str, type(None)),
    }
    if set(metadata) != set(types):
        raise InputError(f"Metadata has entries {sorted(metadata)}, expected {sorted(types)}.")
    for name, kinds in types.items():
        if not isinstance(metadata[name], kinds):
            raise InputError(f"Metadata {name}={metadata[name]!r} has the wrong type.")
    return metadata
