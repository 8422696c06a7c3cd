"""The held-out loss: the same batches every time, without dropout."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from etd_tf.distillation.distiller import Distiller


class HeldOut:
    """Evaluates a distiller on fixed batches.

    Args:
        distiller: The losses and both models.
        batches: A finite dataset; rows that are all padding do not count.
    """

    def __init__(self, distiller: Distiller, batches: tf.data.Dataset) -> None:
        self._distiller = distiller
        self._batches = batches
        self._sums = tf.function(self._batch_sums, autograph=False, reduce_retracing=True)

    def evaluate(self) -> dict[str, float]:
        """Returns the means over all examples: `loss`, then every term by name."""
        totals: dict[str, float] = {}
        for batch in self._batches:
            for name, value in self._sums(batch).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        examples = max(totals.pop("examples", 0.0), 1.0)
        return {name: value / examples for name, value in totals.items()}

    def _batch_sums(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Sums over the examples of a batch; an all-padding row adds 0 to each."""
        loss, terms = self._distiller.distillation_loss(batch, training=False)
        real = tf.reduce_any(tf.cast(batch["padding_mask"], tf.bool), axis=1)
        size = tf.cast(tf.shape(real)[0], tf.float32)
        sums = {name: value * size for name, value in {"loss": loss, **terms}.items()}
        return {**sums, "examples": tf.reduce_sum(tf.cast(real, tf.float32))}
