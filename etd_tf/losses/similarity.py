"""Distance between the two models' similarities of the texts in a batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etd_tf.lazy import ops
from etd_tf.losses.base import Features, Loss, ModelSpec, check_dims, dims_setting
from etd_tf.losses.reductions import constant, masked_mean, to_float32, unit_vectors
from etd_tf.types import Tensor


def similarity_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, *, dims: tuple[int, ...] = ()
) -> Tensor:
    """Mean squared error between the cosines of all pairs of texts in a batch.

    Unlike the other losses it depends on which texts are in a batch together: those of one
    replica and micro-batch.

    Args:
        student: Float sentence vectors `[B, D']`.
        teacher: Float sentence vectors `[B, D]`; get no gradient.
        mask: `[B]`, 1 for texts, 0 for rows that are all padding.
        dims: The mean is also over the cosines of the student's first so many numbers.

    Returns:
        Float32 scalar: the mean over the texts that a text is paired with, then over the
        batch.

    Source: Zhang et al. 2024 (arXiv 2412.19048), the similarity loss.
    """
    goal = _cosines(constant(teacher))
    ours, mask = to_float32(student), to_float32(mask)
    parts = []
    for size in (ours.shape[-1], *dims):
        squares = ops.square(ops.subtract(_cosines(ours[:, :size]), goal))
        parts.append(ops.mean(ops.multiply(masked_mean(squares, mask[None, :]), mask)))
    return ops.mean(ops.stack(parts))


def _cosines(vectors: Tensor) -> Tensor:
    unit = unit_vectors(vectors)
    return ops.matmul(unit, ops.transpose(unit))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similarity(Loss):
    """Whether texts are as similar to each other as the teacher finds them.

    No map is needed, whatever the widths.

    Args:
        matryoshka: Sizes; the first so many numbers of the student's vectors shall give the
            teacher's similarities, too.

    Raises:
        InputError: A size is not positive.
    """

    name = "similarity"
    summary = "similarities of the texts in a batch"
    terms = ("similarity_loss",)
    needs_internals = False
    needs_vectors = True

    matryoshka: tuple[int, ...] = dims_setting()

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks that the vectors are longer than their parts; see the base class."""
        del teacher
        check_dims(self.matryoshka, student.vector_size, "student")

    def compute_terms(
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the single term; see the base class."""
        del projections
        texts = ops.any(ops.greater(student.trace.padding_mask, 0), axis=1)
        found = similarity_loss(student.vectors, teacher.vectors, texts, dims=self.matryoshka)
        return {"similarity_loss": found}
