"""Cosine distance between the two models' last states of each token."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etd_tf.losses.base import Features, Loss, ModelSpec
from etd_tf.losses.reductions import (
    check_same_shape,
    constant,
    half_squared_distance,
    mean_over_tokens,
    to_float32,
)
from etd_tf.types import Tensor


def states_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 - cosine of the states of each real token.

    Args:
        student: Float `[B, T, H]`, already mapped to the teacher's width.
        teacher: Same shape; gets no gradient.
        mask: `[B, T]`, 1 for real tokens.

    Returns:
        Float32 scalar: the mean over the real tokens of each example, then over the batch.

    Raises:
        InputError: The shapes differ.

    Source: Sanh et al. 2019 (arXiv 1910.01108), section 2, the cosine loss.
    """
    check_same_shape(student, teacher, "last states", "Map the student's to that width.")
    return mean_over_tokens(half_squared_distance(to_float32(student), constant(teacher)), mask)


@dataclasses.dataclass(frozen=True)
class States(Loss):
    """How far each token's last state points away from the teacher's.

    Where the widths differ, the states go through the map of the `embedding` loss.
    """

    name = "states"
    summary = "the cosine of each token's last states"
    terms = ("states_loss",)
    needs_map = True

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Any two models fit; see the base class."""

    def compute_terms(
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the single term; see the base class."""
        ours, theirs = student.trace.sequence_output, teacher.trace.sequence_output
        if "map" in projections:
            ours = projections["map"](ours)
        return {"states_loss": states_loss(ours, theirs, student.trace.padding_mask)}
