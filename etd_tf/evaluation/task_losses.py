"""Losses of task models: pure functions of a model's outputs and a batch with labels."""

from collections.abc import Mapping

from keras import ops

from etd_tf.modeling.attention import padding_bias
from etd_tf.types import Tensor

IGNORED = -100
"""Label of a token that has no class, as in PyTorch."""


def classification_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy of `logits` `[B, C]` against int `labels` `[B]`.

    With float `weights` `[B]` in the batch it is the weighted mean.
    """
    losses = ops.sparse_categorical_crossentropy(
        batch["labels"], outputs["logits"], from_logits=True
    )
    weights = batch.get("weights")
    if weights is None:
        return ops.mean(losses)
    return ops.divide(ops.sum(ops.multiply(weights, losses)), ops.sum(weights))


def regression_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean squared error of `logits` `[B, 1]` against float `labels` `[B]`."""
    return ops.mean(ops.square(ops.subtract(outputs["logits"][:, 0], batch["labels"])))


def token_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy over the tokens that have a class.

    Args:
        outputs: `logits` `[B, T, C]`.
        batch: Int `labels` `[B, L]`, L at least T; `IGNORED` where a token has no class.

    Returns:
        The scalar.
    """
    logits = outputs["logits"]
    labels = batch["labels"][:, : ops.shape(logits)[1]]
    counted = ops.cast(ops.not_equal(labels, IGNORED), "float32")
    losses = ops.sparse_categorical_crossentropy(ops.maximum(labels, 0), logits, from_logits=True)
    total = ops.maximum(ops.sum(counted), 1.0)
    return ops.divide(ops.sum(ops.multiply(counted, losses)), total)


def span_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy of first and last answer token over all real tokens.

    Args:
        outputs: `start_logits` and `end_logits` `[B, T]`.
        batch: `padding_mask` `[B, T]`, int `start_positions` and `end_positions` `[B]`.

    Returns:
        The scalar, the mean of both halves.
    """
    bias = padding_bias(batch["padding_mask"])
    halves = [
        ops.mean(
            ops.sparse_categorical_crossentropy(
                batch[f"{side}_positions"],
                ops.add(outputs[f"{side}_logits"], bias),
                from_logits=True,
            )
        )
        for side in ("start", "end")
    ]
    return ops.divide(ops.add(*halves), 2.0)
