"""Mean size of a unit's activations, as in Minitron."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from etd_tf.extraction.gates import UnitValues
from etd_tf.extraction.metrics.metric import (
    Amount,
    TextMetric,
    UnitScorer,
    add_sites,
    weighted_sum,
)
from etd_tf.lazy import tf
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.extraction.sites import LayerSites


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
        from etd_tf.extraction.sites import trace_sites

        def step(tensors: Mapping[str, Tensor], weights: Tensor) -> UnitValues:
            sites = trace_sites(teacher.encoder, tensors)
            means = _mean_activations(sites, tf.cast(tensors["padding_mask"], tf.float32))
            return UnitValues(*(weighted_sum(tf.square(part), weights) for part in means))

        def finish(total: UnitValues) -> UnitValues:
            return add_sites(UnitValues(*(np.sqrt(part) for part in total)))

        return UnitScorer(step, finish, jit_compile=jit_compile)

    def flops(self, teacher: "Checkpoint", loss: str, amount: Amount) -> int:
        """A forward pass; see `Metric.flops`."""
        return amount.sequences * teacher.config.flops(amount.sequence_length)


def _mean_activations(sites: "list[LayerSites]", real: Tensor) -> UnitValues:
    """Mean absolute activation over the real tokens of each example, `[B, ...]`."""
    share = real / tf.maximum(tf.reduce_sum(real, axis=1, keepdims=True), 1.0)

    def channels(x: Tensor) -> Tensor:  # [B, T, U] -> [B, U]
        return tf.einsum("bt,btu->bu", share, tf.abs(tf.cast(x, tf.float32)))

    def dims(x: Tensor) -> Tensor:  # [B, N, T, D] -> [B, N, D]
        return tf.einsum("bt,bntd->bnd", share, tf.abs(tf.cast(x, tf.float32)))

    hidden = [sites[0].attention_input]
    hidden += [x for site in sites for x in (site.ffn_input, site.output)]
    norms = [tf.norm(tf.cast(site.context, tf.float32), axis=-1) for site in sites]
    return UnitValues(
        hidden=tf.stack([channels(x) for x in hidden], axis=1),
        ffn=tf.stack([channels(site.preactivation) for site in sites], axis=1),
        query_key=tf.stack([dims(site.queries) * dims(site.keys) for site in sites], axis=1),
        value=tf.stack([dims(site.context) for site in sites], axis=1),
        heads=tf.stack([tf.einsum("bt,bnt->bn", share, x) for x in norms], axis=1),
    )
