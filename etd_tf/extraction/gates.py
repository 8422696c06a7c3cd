"""Per-example gradients of unit gates.

A gate multiplies a unit's output at every position of one example and equals 1. Its
gradient is the first-order change of that example's loss when the unit is removed.
Gates have a batch axis, so one backward pass of the summed losses gives the gradient of
every gate of every example: in inference mode examples do not interact.

Importance of units by gates: Michel et al. 2019 (arXiv 1905.10650), section 4.1;
Molchanov et al. 2019 (arXiv 1906.10771), section 4.2.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from etd_tf.lazy import tf
from etd_tf.modeling.config import BertConfig
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.modeling.encoder import BertEncoder, EncoderGates

ExampleLoss = Callable[[Any], Tensor]
"""Maps an `EncoderTrace` to one loss an example, float32 `[B]`."""


class UnitValues(NamedTuple):
    """One value for every prunable unit; leading axes may be added.

    Attributes:
        hidden: `[..., L + 1, H]` by site (embedding output, then each layer's output), or
            `[..., H]` once the sites are added up.
        ffn: `[..., L, F]`.
        query_key: `[..., L, N, D]`.
        value: `[..., L, N, D]`.
        heads: `[..., L, N]`.
    """

    hidden: Tensor
    ffn: Tensor
    query_key: Tensor
    value: Tensor
    heads: Tensor


def unit_gates(config: BertConfig, batch_size: Tensor | int) -> "EncoderGates":
    """Returns gates of ones, a set for each example of a batch."""
    from etd_tf.modeling.encoder import EncoderGates

    layers = range(config.num_layers)
    heads = (batch_size, config.num_heads, config.head_size)
    return EncoderGates(
        hidden=tuple(tf.ones((batch_size, config.hidden_size)) for _ in (-1, *layers)),
        intermediate=tuple(tf.ones((batch_size, config.intermediate_size)) for _ in layers),
        query_key=tuple(tf.ones(heads) for _ in layers),
        value=tuple(tf.ones(heads) for _ in layers),
    )


def gate_gradients(
    encoder: "BertEncoder", inputs: Mapping[str, Tensor], example_loss: ExampleLoss
) -> UnitValues:
    """Computes dL_x / dg for every example x and every gate g.

    No gradient of any weight is computed, so the cost is about two forward passes.

    Args:
        encoder: The teacher, run in inference mode.
        inputs: `token_ids`, `segment_ids`, `padding_mask`: int32 `[B, T]`.
        example_loss: Gives L_x, float32 `[B]`.

    Returns:
        Float32 gradients with leading axis B. A head's gradient is the sum over its
        value gates, as a gate on the whole head context moves all of them at once.
    """
    return gate_and_weight_gradients(encoder, inputs, example_loss, ())[0]


def gate_and_weight_gradients(
    encoder: "BertEncoder",
    inputs: Mapping[str, Tensor],
    example_loss: ExampleLoss,
    weights: Sequence[Tensor],
) -> tuple[UnitValues, list[Tensor]]:
    """Adds to `gate_gradients` those of the summed loss by some variables of the encoder."""
    gates = unit_gates(encoder.config, tf.shape(inputs["token_ids"])[0])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch((gates, *weights))
        total = tf.reduce_sum(example_loss(encoder.trace(inputs, gates=gates)))
    by_gate, by_weight = tape.gradient(
        total, (gates, list(weights)), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    value = tf.stack(by_gate.value, axis=1)
    units = UnitValues(
        hidden=tf.stack(by_gate.hidden, axis=1),
        ffn=tf.stack(by_gate.intermediate, axis=1),
        query_key=tf.stack(by_gate.query_key, axis=1),
        value=value,
        heads=tf.reduce_sum(value, axis=-1),
    )
    return units, by_weight
