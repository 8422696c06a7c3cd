"""What a checkpoint on disk holds, before a model is built from it."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np
from absl import logging

from etd_tf.checkpoints.names import Row
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.structure import parameter_shapes
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, Parameters

_OPTIONAL = ("pooler.", "mlm.")
_SHOWN = 8  # names listed in a message


@dataclasses.dataclass(frozen=True)
class Contents:
    """Configuration, weights and tokenizer as read from one checkpoint.

    Attributes:
        config: The architecture.
        parameters: Float32 arrays by canonical name; often views of the mapped file.
        tokenizer: The tokenizer, or None where the checkpoint has none.
    """

    config: BertConfig
    parameters: Parameters
    tokenizer: Tokenizer | None


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
    return {
        row.canonical: as_float32(tensors[row.theirs].T if row.transposed else tensors[row.theirs])
        for row in needed
    }


def as_float32(value: Array) -> Array:
    """Returns the array as float32, itself where it is float32 already."""
    return value.astype(np.float32, copy=False)


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
        logging.warning("%s: %d weights are not used: %s.", source, len(names), shortened(names))


def shortened(names: list[str]) -> str:
    """Joins names for a message, at most eight of them."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
