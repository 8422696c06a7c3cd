"""`tf_model.h5`, the Keras 2 weights file of older Transformers releases.

Datasets lie at `LAYER/MODEL/LAYER/.../kernel:0`. They are renamed to the PyTorch names, so
that one table serves all weight files of a Hugging Face directory.
"""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from etd_tf.errors import InputError
from etd_tf.types import Array

_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "embeddings": "weight",
    "beta": "bias",
}


def torch_name(path: str) -> str:
    """Translates a dataset's path.

    Args:
        path: For example `bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`.

    Returns:
        The PyTorch name, `bert.encoder.layer.0.output.dense.weight` for the example.
    """
    _, _, *parts = path.removesuffix(":0").split("/")  # group and model class come first
    plain = "/".join(re.sub(r"^.*___", "", part) for part in parts).replace("_._", "/")
    *body, leaf = plain.split("/")
    return ".".join((*body, _LEAVES.get(leaf, leaf)))


def read_tf_h5(path: str | Path) -> dict[str, Array]:
    """Reads all weights under their PyTorch names and orientation.

    Returns:
        Arrays by PyTorch name; kernels are transposed views `[output, input]`.

    Raises:
        InputError: The file is missing, truncated or no HDF5 file.
    """
    path = Path(path)
    tensors: dict[str, Array] = {}

    def visit(name: str | bytes, item: Any) -> None:
        if not isinstance(name, str):  # but bytes, where it is not UTF-8
            raise InputError(f"{path}: {name!r} is no name of a weight. It may be corrupt.")
        if not isinstance(item, h5py.Dataset) or name.count("/") < 2:
            return
        if item.is_virtual or item.external or item.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} is no plain array of numbers stored in the file.")
        if item.id.get_storage_size() != item.nbytes:  # before memory is set aside for it
            raise InputError(f"{path}: {name} is compressed or incomplete. Save the model again.")
        value = np.asarray(item[()])
        tensors[torch_name(name)] = value.T if name.endswith("/kernel:0") else value

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is not a readable HDF5 file ({error}). It may be truncated or corrupt; "
            "copy or download it again."
        ) from error
    return tensors
