"""MiniLM's losses: divergence between self-attention relations.

Source: Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic
Compression of Pre-Trained Transformers" (arXiv 2002.10957), and Wang et al. 2021,
"MiniLMv2: Multi-Head Self-Attention Relation Distillation" (arXiv 2012.15828).
"""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from etd_tf.errors import InputError
from etd_tf.losses.base import FeatureLoss, Features, ModelSpec, layer_index, positive_weights
from etd_tf.losses.reductions import check_same_shape, constant, mean_over_tokens, to_float32
from etd_tf.modeling.attention import padding_bias
from etd_tf.types import Tensor

_LARGEST_DEFAULT_RELATION_HEADS = 48  # the published choice for base-size teachers
_RELATION_TERMS = {
    "queries": "query_relation_loss",
    "keys": "key_relation_loss",
    "values": "value_relation_loss",
}
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


def split_relation_heads(x: Tensor, relation_heads: int) -> Tensor:
    """Joins all heads and splits them again into another number of heads.

    Args:
        x: `[B, N, T, D]`.
        relation_heads: R, a divisor of N * D.

    Returns:
        `[B, R, T, N * D / R]`.

    Raises:
        InputError: R does not divide N * D.

    Source: Wang et al. 2021, section 3.1.
    """
    heads, size = x.shape[1], x.shape[3]
    if relation_heads == heads:
        return x
    if heads * size % relation_heads:
        raise InputError(
            f"relation_heads={relation_heads} does not divide the attention width {heads * size}."
        )
    batch, length = ops.shape(x)[0], ops.shape(x)[2]
    joined = ops.transpose(x, (0, 2, 1, 3))
    split = (batch, length, relation_heads, heads * size // relation_heads)
    return ops.transpose(ops.reshape(joined, split), (0, 2, 1, 3))


@keras.saving.register_keras_serializable(package="etd_tf")
class MiniLM(FeatureLoss):
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

    def __init__(
        self,
        *,
        teacher_layer: int = -1,
        attention_weight: float = 1.0,
        value_weight: float = 1.0,
    ) -> None:
        self.teacher_layer = teacher_layer
        self._weights = {
            "attention_relation_loss": attention_weight,
            "value_relation_loss": value_weight,
        }
        self._term_weights = positive_weights(self._weights)

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of attention_relation_loss and value_relation_loss, where positive."""
        return dict(self._term_weights)

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
        self,
        teacher: Features | None,
        student: Features,
        projections: Mapping[str, keras.layers.Layer],
    ) -> dict[str, Tensor]:
        """Computes the terms of positive weight; see the base class."""
        del projections
        if teacher is None:
            raise InputError("MiniLM needs the teacher's features.")
        ours, theirs, mask = student.trace, teacher.trace, student.trace.padding_mask
        layer = layer_index(self.teacher_layer, len(theirs.values), "teacher_layer")
        terms = {}
        if "attention_relation_loss" in self._term_weights:
            terms["attention_relation_loss"] = relation_loss(
                ours.attention_scores[-1], theirs.attention_scores[layer], mask
            )
        if "value_relation_loss" in self._term_weights:
            terms["value_relation_loss"] = relation_loss(
                relation_scores(ours.values[-1]), relation_scores(theirs.values[layer]), mask
            )
        return terms

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "teacher_layer": self.teacher_layer,
            "attention_weight": self._weights["attention_relation_loss"],
            "value_weight": self._weights["value_relation_loss"],
        }


@keras.saving.register_keras_serializable(package="etd_tf")
class MiniLMv2(FeatureLoss):
    """Query, key and value relations of one teacher layer, with free head counts.

    The heads of both models are joined and split again into R relation heads.

    Args:
        relation_heads: R; it must divide both hidden sizes. None takes the largest common
            divisor not above 48.
        teacher_layer: Teacher layer, 1 to L, or -1 (the last) to -L. The paper takes the
            last of 12 layers and the 21st of 24.
        query_weight: Weight of the query-query term; 0 leaves it out.
        key_weight: Weight of the key-key term.
        value_weight: Weight of the value-value term.

    Raises:
        InputError: A weight is negative, all are 0, or `relation_heads` is not positive.

    Source: Wang et al. 2021 (arXiv 2012.15828), section 3.1.
    """

    def __init__(
        self,
        *,
        relation_heads: int | None = None,
        teacher_layer: int = -1,
        query_weight: float = 1.0,
        key_weight: float = 1.0,
        value_weight: float = 1.0,
    ) -> None:
        if relation_heads is not None and relation_heads < 1:
            raise InputError(f"relation_heads={relation_heads} is not positive.")
        self.relation_heads = relation_heads
        self.teacher_layer = teacher_layer
        self._weights = {"queries": query_weight, "keys": key_weight, "values": value_weight}
        self._term_weights = positive_weights(
            {_RELATION_TERMS[part]: weight for part, weight in self._weights.items()}
        )

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of the query, key and value relation losses, where positive."""
        return dict(self._term_weights)

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks the teacher layer and relation heads; see the base class."""
        layer_index(self.teacher_layer, teacher.config.num_layers, "teacher_layer")
        widths = (teacher.config.hidden_size, student.config.hidden_size)
        divisor = math.gcd(*widths)
        if self.relation_heads is not None and divisor % self.relation_heads:
            usable = [r for r in range(1, divisor + 1) if divisor % r == 0]
            raise InputError(
                f"relation_heads={self.relation_heads} does not divide both hidden sizes, "
                f"{widths[0]} (teacher) and {widths[1]} (student). Usable numbers: "
                f"{', '.join(map(str, usable))}."
            )

    def compute_terms(
        self,
        teacher: Features | None,
        student: Features,
        projections: Mapping[str, keras.layers.Layer],
    ) -> dict[str, Tensor]:
        """Computes the terms of positive weight; see the base class."""
        del projections
        if teacher is None:
            raise InputError("MiniLMv2 needs the teacher's features.")
        ours, theirs, mask = student.trace, teacher.trace, student.trace.padding_mask
        layer = layer_index(self.teacher_layer, len(theirs.values), "teacher_layer")
        terms = {}
        for part, name in _RELATION_TERMS.items():
            if name not in self._term_weights:
                continue
            ours_x, theirs_x = getattr(ours, part)[-1], getattr(theirs, part)[layer]
            heads = self.relation_heads or default_relation_heads(
                theirs_x.shape[1] * theirs_x.shape[3], ours_x.shape[1] * ours_x.shape[3]
            )
            terms[name] = relation_loss(
                relation_scores(split_relation_heads(ours_x, heads)),
                relation_scores(split_relation_heads(theirs_x, heads)),
                mask,
            )
        return terms

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "relation_heads": self.relation_heads,
            "teacher_layer": self.teacher_layer,
            "query_weight": self._weights["queries"],
            "key_weight": self._weights["keys"],
            "value_weight": self._weights["values"],
        }


def default_relation_heads(teacher_width: int, student_width: int) -> int:
    """Largest common divisor of two attention widths that is not above 48."""
    divisor = math.gcd(teacher_width, student_width)
    return max(r for r in range(1, _LARGEST_DEFAULT_RELATION_HEADS + 1) if divisor % r == 0)
