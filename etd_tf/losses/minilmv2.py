"""MiniLMv2's loss: divergence between self-attention relations, with free head counts.

Source: Wang et al. 2021, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for
Compressing Pretrained Transformers" (arXiv 2012.15828).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.losses.base import Features, Loss, ModelSpec, layer_index, positive_weights
from etd_tf.losses.minilm import relation_loss, relation_scores
from etd_tf.settings import setting
from etd_tf.types import Tensor

_LARGEST_DEFAULT_RELATION_HEADS = 48  # the published choice for base-size teachers
_RELATION_TERMS = {
    "queries": "query_relation_loss",
    "keys": "key_relation_loss",
    "values": "value_relation_loss",
}


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniLMv2(Loss):
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

    name = "minilmv2"
    summary = "query, key and value relations (any head counts)"

    relation_heads: int | None = setting(
        None, "Relation heads of minilmv2; default: the most that fit, up to 48.", least=1
    )
    teacher_layer: int = setting(-1, "Teacher layer of the minilm losses, 1 to L; -1 is the last.")
    query_weight: float = setting(1.0, "Weight of the query relations.", flag="", least=0.0)
    key_weight: float = setting(1.0, "Weight of the key relations.", flag="", least=0.0)
    value_weight: float = setting(1.0, "Weight of the value relations.", flag="", least=0.0)

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of the query, key and value relation losses, where positive."""
        return positive_weights(
            query_relation_loss=self.query_weight,
            key_relation_loss=self.key_weight,
            value_relation_loss=self.value_weight,
        )

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
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the terms of positive weight; see the base class."""
        del projections
        ours, theirs, mask = student.trace, teacher.trace, student.trace.padding_mask
        layer = layer_index(self.teacher_layer, len(theirs.values), "teacher_layer")
        terms = {}
        for part, name in _RELATION_TERMS.items():
            if name not in self.term_weights:
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


def default_relation_heads(teacher_width: int, student_width: int) -> int:
    """Largest common divisor of two attention widths that is not above 48."""
    divisor = math.gcd(teacher_width, student_width)
    return max(r for r in range(1, _LARGEST_DEFAULT_RELATION_HEADS + 1) if divisor % r == 0)
