"""MiniLM's loss: divergence between self-attention relations, head by head.

Source: Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic
Compression of Pre-Trained Transformers" (arXiv 2002.10957).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.losses.base import Features, Loss, ModelSpec, layer_index, positive_weights
from etd_tf.losses.reductions import check_same_shape, constant, mean_over_tokens, to_float32
from etd_tf.settings import setting
from etd_tf.types import Tensor

_HEADS_FIX = (
    "Use MiniLMv2 (minilmv2), whose relation heads fit any two models, or a student with the "
    "teacher's number of heads."
)


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the teacher's relation to the student's.

    A relation is the softmax of scores over the real keys of each query.

    Args:
        student: Float scores `[B, N, T, T]` (query, key), before mask and softmax.
        teacher: Same shape; gets no gradient.
        mask: `[B, T]`, 1 for real tokens. Padded queries and keys do not count.

    Returns:
        Float32 scalar: the mean over heads and real queries of each example, then over
        the batch.

    Raises:
        InputError: The shapes differ.

    Source: Wang et al. 2020, equations 5 and 7.
    """
    from etd_tf.modeling.attention import padding_bias

    check_same_shape(student, teacher, "relation scores", _HEADS_FIX)
    bias = padding_bias(mask)[:, None, None, :]
    theirs, their_weights, their_total = _exponentials(ops.add(constant(teacher), bias))
    ours, _, our_total = _exponentials(ops.add(to_float32(student), bias))
    # With x = scores - max and Z = sum(exp(x)), log p = x - log(Z). As p sums to one, the
    # two log(Z) leave the sum over keys, and no log-probability tensor is ever made. Equal
    # scores give exactly 0.
    expected = ops.divide(
        ops.sum(ops.multiply(their_weights, ops.subtract(theirs, ours)), axis=-1), their_total
    )
    divergence = ops.add(expected, ops.log(ops.divide(our_total, their_total)))
    return mean_over_tokens(ops.mean(divergence, axis=1), mask)


def _exponentials(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x = scores - max, exp(x) and its sum over the last axis."""
    top = ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
    shifted = ops.subtract(scores, top)
    weights = ops.exp(shifted)
    return shifted, weights, ops.sum(weights, axis=-1)


def relation_scores(x: Tensor) -> Tensor:
    """Scaled products of each head's vectors with each other.

    Args:
        x: Float `[B, N, T, D]`: queries, keys or values.

    Returns:
        Float32 `[B, N, T, T]`, x x^T / sqrt(D).

    Source: Wang et al. 2020, equation 6.
    """
    x = to_float32(x)
    scaled = ops.multiply(x, x.shape[-1] ** -0.5)
    return ops.matmul(scaled, ops.transpose(x, (0, 1, 3, 2)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniLM(Loss):
    """Attention and value relations of one teacher layer, for the student's last layer.

    No projection is needed: hidden sizes are free, but head counts must be equal.

    Args:
        teacher_layer: Teacher layer, 1 to L, or -1 (the last) to -L.
        attention_weight: Weight of the attention-distribution term; 0 leaves it out.
        value_weight: Weight of the value-relation term.

    Raises:
        InputError: A weight is negative, or all are 0.

    Source: Wang et al. 2020 (arXiv 2002.10957), equation 8.
    """

    name = "minilm"
    summary = "attention and value relations (equal head counts)"

    teacher_layer: int = setting(-1, "Teacher layer of the minilm losses, 1 to L; -1 is the last.")
    attention_weight: float = setting(1.0, "Weight of the attention term.", flag="", least=0.0)
    value_weight: float = setting(1.0, "Weight of the value-relation term.", flag="", least=0.0)

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of attention_relation_loss and value_relation_loss, where positive."""
        return positive_weights(
            attention_relation_loss=self.attention_weight, value_relation_loss=self.value_weight
        )

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks the teacher layer and head counts; see the base class."""
        layer_index(self.teacher_layer, teacher.config.num_layers, "teacher_layer")
        heads = (teacher.config.num_heads, student.config.num_heads)
        if heads[0] != heads[1]:
            raise InputError(
                f"MiniLM compares head with head, but the teacher has {heads[0]} heads and the "
                f"student {heads[1]}. {_HEADS_FIX}"
            )

    def compute_terms(
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the terms of positive weight; see the base class."""
        del projections
        ours, theirs, mask = student.trace, teacher.trace, student.trace.padding_mask
        layer = layer_index(self.teacher_layer, len(theirs.values), "teacher_layer")
        terms = {}
        if "attention_relation_loss" in self.term_weights:
            terms["attention_relation_loss"] = relation_loss(
                ours.attention_scores[-1], theirs.attention_scores[layer], mask
            )
        if "value_relation_loss" in self.term_weights:
            terms["value_relation_loss"] = relation_loss(
                relation_scores(ours.values[-1]), relation_scores(theirs.values[layer]), mask
            )
        return terms
