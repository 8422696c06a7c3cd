"""The held-out loss: the same batches every time, without dropout."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from etd_tf.distillation.distiller import Distiller
from etd_tf.distillation.features import count_examples
from etd_tf.distillation.step import shared_features
from etd_tf.modeling.checked_data import checked_dataset


class HeldOut:
    """Evaluates distillers of equal teachers on fixed batches, with one pass of the teacher.

    Args:
        distillers: The losses and both models of each.
        batches: A finite dataset; rows that are all padding do not count.
    """

    def __init__(self, distillers: Sequence[Distiller], batches: tf.data.Dataset) -> None:
        self._distillers = tuple(distillers)
        self._batches = checked_dataset(batches, distillers[0].input_config())
        self._sums = tf.function(self._batch_sums, autograph=False, reduce_retracing=True)

    def evaluate(self) -> list[dict[str, float]]:
        """Returns, for each distiller, the means over all examples: `loss`, then every term."""
        totals: list[dict[str, float]] = [{} for _ in self._distillers]
        examples = 0.0
        for batch in self._batches:
            count, sums = self._sums(batch)
            examples += float(count)
            for total, values in zip(totals, sums, strict=True):
                for name, value in values.items():
                    total[name] = total.get(name, 0.0) + float(value)
        return [
            {name: value / max(examples, 1.0) for name, value in total.items()} for total in totals
        ]

    def _batch_sums(self, batch: Mapping[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
        """Number of examples, and sums over them; an all-padding row adds 0 to each."""
        size = tf.cast(tf.shape(batch["token_ids"])[0], tf.float32)
        teacher = shared_features(self._distillers, batch)
        sums = []
        for distiller in self._distillers:
            loss, terms = distiller.distillation_loss(batch, training=False, teacher=teacher)
            sums.append({name: value * size for name, value in {"loss": loss, **terms}.items()})
        return count_examples(self._distillers[0].student, batch), sums
