"""From the tensors of a file to weights by canonical name."""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from absl import logging

from etd_tf.checkpoints.names import Row
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.structure import parameter_shapes
from etd_tf.types import Array, Parameters

_OPTIONAL = ("pooler.", "mlm.")
_SHOWN = 8  # names listed in a message


class Lookup(Mapping[str, Array]):
    """A mapping whose values stay in other mappings until asked for.

    Args:
        places: For each name the mapping that holds the tensor and its name there.
    """

    def __init__(self, places: Mapping[str, tuple[Mapping[str, Array], str]]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Array:
        tensors, theirs = self._places[name]
        return tensors[theirs]

    def __contains__(self, name: object) -> bool:
        return name in self._places  # the inherited method would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


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
            f"asks for: {_shortened(missing)}. Check that the configuration belongs to the weights "
            "and that the file is complete."
        )
    return {
        row.canonical: _oriented(tensors[row.theirs], row).astype(np.float32, copy=False)
        for row in needed
    }


def _oriented(value: Array, row: Row) -> Array:
    return value.T if row.transposed else value


def reshape_all(config: BertConfig, parameters: Parameters, source: str) -> Parameters:
    """Gives arrays that split attention kernels into heads their canonical shapes.

    Args:
        config: The architecture.
        parameters: Arrays by canonical name, in any shape of the right size.
        source: The file, for messages.

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
        logging.warning("%s: %d weights are not used: %s.", source, len(names), _shortened(names))


def _shortened(names: list[str]) -> str:
    """Joins names for a message, at most eight of them."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
