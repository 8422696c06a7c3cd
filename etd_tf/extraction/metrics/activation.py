"""Mean size of a unit's activations, as in Minitron."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etd_tf.extraction.gates import UnitValues
from etd_tf.extraction.metrics.metric import (
    Amount,
    TextMetric,
    UnitScorer,
    add_sites,
    weighted_sum,
)
from etd_tf.lazy import LazyModule, tf
from etd_tf.modeling.config import BertConfig
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint

np: Any = LazyModule("numpy")  # not for help pages


class Activation(TextMetric):
    """Forward-only scores as in Minitron: L2 over examples, mean over positions.

    Channels are read after every LayerNorm (summed over sites), neurons before the
    activation function, heads as the norm of their context. Dims inside a head, which
    Minitron does not rank, are read from the context (values) and as the product of the
    mean absolute query and key.

    Source: Muralidharan et al. 2024 (arXiv 2407.14679), section 2.2 and table 12.
    """

    name = "activation"
    title = "activation"
    summary = "mean size of activations, as in Minitron; no backward pass"

    def scorer(
        self, teacher: "Checkpoint", objective: Any = None, *, jit_compile: bool = False
    ) -> UnitScorer:
        """See `TextMetric.scorer`."""
        encoder = teacher.encoder  # built before the step is traced

        def step(tensors: Mapping[str, Tensor], weights: Tensor) -> UnitValues:
            trace = encoder.trace(tensors)
            real = tf.cast(tensors["padding_mask"], tf.float32)
            means = _mean_activations(trace, real, teacher.config)
            return UnitValues(*(weighted_sum(tf.square(part), weights) for part in means))

        def finish(total: UnitValues) -> UnitValues:
            return add_sites(UnitValues(*(np.sqrt(part) for part in total)))

        return UnitScorer(step, finish, jit_compile=jit_compile)

    def flops(self, teacher: "Checkpoint", loss: str, amount: Amount) -> int:
        """A forward pass; see `Metric.flops`."""
        return amount.sequences * teacher.config.flops(amount.sequence_length)


def _mean_activations(trace: Any, real: Tensor, config: BertConfig) -> UnitValues:
    """Mean absolute activation over the real tokens of each example, `[B, ...]`."""
    share = real / tf.maximum(tf.reduce_sum(real, axis=1, keepdims=True), 1.0)
    length = tf.shape(real)[1]

    def channels(x: Tensor) -> Tensor:  # [B, T, U] -> [B, U]
        return tf.einsum("bt,btu->bu", share, tf.abs(tf.cast(x, tf.float32)))

    def dims(x: Tensor) -> Tensor:  # [B, N, T, D] -> [B, N, D]
        return tf.einsum("bt,bntd->bnd", share, tf.abs(tf.cast(x, tf.float32)))

    hidden = [trace.embedding_output]
    hidden += [x for pair in zip(trace.ffn_inputs, trace.hidden_states, strict=True) for x in pair]
    heads = (-1, length, config.num_heads, config.head_size)
    contexts = [
        tf.transpose(tf.reshape(tf.cast(x, tf.float32), heads), (0, 2, 1, 3))
        for x in trace.contexts
    ]
    products = [dims(q) * dims(k) for q, k in zip(trace.queries, trace.keys, strict=True)]
    norms = [tf.norm(x, axis=-1) for x in contexts]
    return UnitValues(
        hidden=tf.stack([channels(x) for x in hidden], axis=1),
        ffn=tf.stack([channels(x) for x in trace.preactivations], axis=1),
        query_key=tf.stack(products, axis=1),
        value=tf.stack([dims(x) for x in contexts], axis=1),
        heads=tf.stack([tf.einsum("bt,bnt->bn", share, x) for x in norms], axis=1),
    )
