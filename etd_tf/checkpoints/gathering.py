"""From the tensors of a file to weights by canonical name."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from absl import logging

from etd_tf.checkpoints.names import Row
from etd_tf.errors import InputError, shortened
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.structure import parameter_shapes
from etd_tf.types import Array, Parameters

_OPTIONAL = ("pooler.", "mlm.")
# What stands beside weights that are not the numbers in their tensors: scales and packed
# integers of bitsandbytes, GPTQ, AWQ, compressed-tensors and PyTorch, and low-rank updates.
_QUANTISED = re.compile(
    r".*\.(?:SCB|weight_format|qweight|qzeros|g_idx|zero_point|weight_(?:scale|packed|zero)\w*"
    r"|_packed_params.*|weight\.(?:absmax|quant_\w+|nested_\w+).*)"
)
_ADAPTED = re.compile(r".*(?:\.lora_[A-Za-z]|\.base_layer\.|\.modules_to_save\.|\.adapters?\.).*")


class Tensors(Mapping[str, Array]):
    """Tensors by name that are read on access; the names are those of `_entries`."""

    path: Path
    kind: ClassVar[str]
    _entries: Mapping[str, Any]

    def _error(self, problem: str) -> InputError:
        return InputError(
            f"{self.path} is not a usable {self.kind} file: {problem}. It may be truncated or "
            "corrupt; copy or download it again."
        )

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # the inherited method would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Lookup(Tensors):
    """A mapping whose values stay in other mappings until asked for.

    Args:
        places: For each name the mapping that holds the tensor and its name there.
    """

    def __init__(self, places: Mapping[str, tuple[Mapping[str, Array], str]]) -> None:
        self._entries = dict(places)

    def __getitem__(self, name: str) -> Array:
        tensors, theirs = self._entries[name]
        return tensors[theirs]


def gather(rows: Iterable[Row], tensors: Mapping[str, Array], source: str) -> Parameters:
    """Picks the weights that a table names.

    Pooler and masked-LM head are optional, but each comes whole or not at all.

    Args:
        rows: The expanded table of the format.
        tensors: Arrays by the format's names.
        source: The file, for messages.

    Returns:
        Float32 arrays by canonical name, in table order.

    Raises:
        InputError: A weight of the encoder is missing, or a head is incomplete.
    """
    rows = list(rows)
    present = {row.canonical for row in rows if row.theirs in tensors}
    groups = {name.split(".")[0] for name in present}
    needed = [
        row
        for row in rows
        if not row.canonical.startswith(_OPTIONAL) or row.canonical.split(".")[0] in groups
    ]
    missing = [row.theirs for row in needed if row.canonical not in present]
    if missing:
        raise InputError(
            f"{source} lacks {len(missing)} of the {len(needed)} weights that its configuration "
            f"asks for: {shortened(missing)}. Check that the configuration belongs to the weights "
            "and that the file is complete."
        )
    weights = ((row, read_weight(tensors, row.theirs, source)) for row in needed)
    return {row.canonical: value.T if row.transposed else value for row, value in weights}


def read_weight(tensors: Mapping[str, Array], name: str, source: str) -> Array:
    """Reads one tensor whose numbers are weights.

    Returns:
        The float32 array.

    Raises:
        InputError: It holds integers, as quantised models do, or NaN or infinity.
    """
    value = tensors[name]
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        raise InputError(
            f"{source}: {name} has dtype {value.dtype}, but weights are floats; is the model "
            "quantised? Pass the model that it was made of, or save it dequantised as float32."
        )
    with np.errstate(over="ignore"):  # told below
        value = value.astype(np.float32, copy=False)
    check_finite({name: value}, source)
    return value


def check_finite(parameters: Mapping[str, Array], source: str) -> None:
    """Checks that all weights are numbers: 12 ms for 91 MB, which take 75 ms to load.

    Args:
        parameters: Float32 arrays by name.
        source: What they belong to, for messages.
    """
    for name, value in parameters.items():
        finite = np.isfinite(value)
        if not finite.all():
            raise InputError(
                f"{source}: {name} has {finite.size - np.count_nonzero(finite)} values of "
                f"{finite.size} that are NaN or infinite as float32. The model is damaged or its "
                "training diverged; use an earlier checkpoint of it."
            )


def check_same(tensors: Mapping[str, Array], names: tuple[str, str], source: str) -> None:
    """Checks that two tensors for one place in the model hold the same numbers.

    Raises:
        InputError: They differ, so that nothing says which one is meant.
    """
    first, second = names
    if first != second and not np.array_equal(tensors[first], tensors[second], equal_nan=True):
        raise InputError(
            f"{source} holds {first} and {second}, two different tensors for the same weight. "
            "Save the model that is meant on its own: model.save_pretrained(directory)."
        )


def check_names(names: Iterable[str], source: str) -> None:
    """Checks that no tensor shows that the others are not the whole weights.

    Raises:
        InputError: There are scales of quantised weights, or adapters beside the weights.
    """
    names = sorted(names)
    if found := [name for name in names if _QUANTISED.fullmatch(name)]:
        raise InputError(
            f"{source} holds a quantised model: {shortened(found)}. "
            "Pass the model that it was made of, or save it dequantised as float32."
        )
    if found := [name for name in names if _ADAPTED.fullmatch(name)]:
        raise InputError(
            f"{source} holds an adapter beside the weights: {shortened(found)}. Merge it first: "
            "model.merge_and_unload().save_pretrained(directory)."
        )


def reshape_all(config: BertConfig, parameters: Parameters, source: str) -> Parameters:
    """Gives arrays that split attention kernels into heads their canonical shapes.

    Returns:
        The same arrays, reshaped.

    Raises:
        InputError: An array has the wrong number of elements.
    """
    shapes = parameter_shapes(config, pooler=True, mlm_head=True)
    for name, value in parameters.items():
        if value.size != math.prod(shapes[name]):  # of any size, unlike NumPy's
            raise InputError(
                f"{source}: {name} has shape {tuple(value.shape)}, expected {shapes[name]}. "
                "Check that the configuration belongs to the weights."
            )
    return {name: value.reshape(shapes[name]) for name, value in parameters.items()}


def report_leftover(names: Iterable[str], source: str) -> None:
    """Logs the weights of a file that found no place in the model."""
    names = sorted(names)
    if names:
        logging.warning("%s: %d weights are not used: %s.", source, len(names), shortened(names))
