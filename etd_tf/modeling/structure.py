"""Every weight of an encoder, with the kind of unit that each of its axes holds.

One table describes the layers. Shapes, counts, operations, slices, magnitudes and what
folds into what are derived from it, so an encoder with other weights is another table.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from etd_tf.errors import InputError
from etd_tf.types import Array

HIDDEN, QUERY_KEY, VALUE, FFN = "hidden", "query_key", "value", "ffn"
TOKEN, POSITION, SEGMENT = "token", "position", "segment"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of an encoder; `BertConfig` says what they are."""

    vocab_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    max_positions: int = 512
    type_vocab_size: int = 2


class Weight(NamedTuple):
    """A weight.

    Attributes:
        name: Its canonical name; of a layer's weight the part behind `layers.N.`.
        axes: The kind of unit along each axis. Kernels are `[input, output]`; column
            n * D + j of an attention kernel is dim j of head n.
        reads: Of the kernels of a layer: the name of the activations that it multiplies.
    """

    name: str
    axes: tuple[str, ...]
    reads: str = ""

    @property
    def is_table(self) -> bool:
        """Whether it is a kernel or an embedding table, not a vector."""
        return len(self.axes) > 1

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape, for the sizes of `axis_sizes`."""
        return tuple(sizes[axis] for axis in self.axes)


def _dense(name: str, rows: str, columns: str, reads: str = "") -> tuple[Weight, Weight]:
    return Weight(f"{name}.kernel", (rows, columns), reads), Weight(f"{name}.bias", (columns,))


def _norm(name: str) -> tuple[Weight, Weight]:
    return Weight(f"{name}.gamma", (HIDDEN,)), Weight(f"{name}.beta", (HIDDEN,))


EMBEDDINGS = (
    Weight("embeddings.token", (TOKEN, HIDDEN)),
    Weight("embeddings.position", (POSITION, HIDDEN)),
    Weight("embeddings.segment", (SEGMENT, HIDDEN)),
    *_norm("embeddings.layer_norm"),
)
LAYER = (
    *_dense("attention.query", HIDDEN, QUERY_KEY, reads="attention_input"),
    *_dense("attention.key", HIDDEN, QUERY_KEY, reads="attention_input"),
    *_dense("attention.value", HIDDEN, VALUE, reads="attention_input"),
    *_dense("attention.output", VALUE, HIDDEN, reads="context"),
    *_norm("attention_layer_norm"),
    *_dense("intermediate", HIDDEN, FFN, reads="ffn_input"),
    *_dense("output", FFN, HIDDEN, reads="inner"),
    *_norm("output_layer_norm"),
)
POOLER = _dense("pooler", HIDDEN, HIDDEN)
MLM_HEAD = (
    *_dense("mlm.dense", HIDDEN, HIDDEN),
    *_norm("mlm.layer_norm"),
    Weight("mlm.output_bias", (TOKEN,)),  # its kernel is tied to the token embeddings
)
SITES = tuple(dict.fromkeys(weight.reads for weight in LAYER if weight.reads))
"""The places of a layer where units are cut, by the names in `Weight.reads`."""


def readers(site: str) -> tuple[Weight, ...]:
    """The kernels of a layer that read a site."""
    return tuple(weight for weight in LAYER if weight.reads == site)


def axis_sizes(config: Sizes) -> dict[str, int]:
    """Units of each kind: of the whole model, or of one layer."""
    return {
        HIDDEN: config.hidden_size,
        QUERY_KEY: config.hidden_size,
        VALUE: config.hidden_size,
        FFN: config.intermediate_size,
        TOKEN: config.vocab_size,
        POSITION: config.max_positions,
        SEGMENT: config.type_vocab_size,
    }


def weights_of(
    num_layers: int, *, pooler: bool = True, mlm_head: bool = False
) -> Iterator[tuple[str, Weight, int | None]]:
    """Lists the weights of a model in their order.

    Yields:
        The canonical name, the weight, and the layer that it belongs to, counted from 0, or
        None.
    """
    for weight in EMBEDDINGS:
        yield weight.name, weight, None
    for index in range(num_layers):
        for weight in LAYER:
            yield f"layers.{index}.{weight.name}", weight, index
    for weight in (*(POOLER if pooler else ()), *(MLM_HEAD if mlm_head else ())):
        yield weight.name, weight, None


def parameter_shapes(
    config: Sizes, *, pooler: bool = True, mlm_head: bool = False
) -> dict[str, tuple[int, ...]]:
    """Lists every weight of a model, without building it.

    Args:
        config: The architecture.
        pooler: Include the pooler.
        mlm_head: Include the masked-LM head.

    Returns:
        Shape by canonical name, in model order.
    """
    sizes = axis_sizes(config)
    found = weights_of(config.num_layers, pooler=pooler, mlm_head=mlm_head)
    return {name: weight.shape(sizes) for name, weight, _ in found}


def count_parameters(config: Sizes, *, pooler: bool, mlm_head: bool) -> int:
    """Counts trainable scalars; see `parameter_shapes` for the arguments."""
    shapes = parameter_shapes(config, pooler=pooler, mlm_head=mlm_head)
    return sum(math.prod(shape) for shape in shapes.values())


def layer_flops(config: Sizes, sequence_length: int) -> int:
    """Operations of one layer on one sequence of T tokens; a multiply-add counts as 2.

    2 * T * (all kernel entries) for the products with kernels, and 2 * T * T * A for each of
    the two products of attention, A being the units of queries and of values. Biases,
    LayerNorm and softmax are left out, as in TinyBERT's table 1 (Jiao et al. 2019).
    """
    sizes, length = axis_sizes(config), sequence_length
    kernels = sum(math.prod(weight.shape(sizes)) for weight in LAYER if weight.is_table)
    return 2 * length * kernels + 2 * length * length * (sizes[QUERY_KEY] + sizes[VALUE])


def check_parameters(
    parameters: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], source: str = ""
) -> None:
    """Checks that arrays are exactly the weights of a model.

    Args:
        parameters: Arrays by canonical name.
        shapes: Expected shape by canonical name.
        source: The model, for messages.

    Raises:
        InputError: A weight is missing, is left over or has another shape.
    """
    missing = [name for name in shapes if name not in parameters]
    extra = [name for name in parameters if name not in shapes]
    wrong = [
        f"{name} has shape {tuple(parameters[name].shape)}, expected {shape}"
        for name, shape in shapes.items()
        if name in parameters and tuple(parameters[name].shape) != shape
    ]
    problems = [f"{name} is missing" for name in missing] + wrong
    problems += [f"{name} has no place in the model" for name in extra]
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        whose = f"The weights of {source}" if source else "The weights"
        raise InputError(f"{whose} do not fit the configuration: {shown}.")
