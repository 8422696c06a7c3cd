"""Cosine distance between the two models' sentence vectors."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etd_tf.lazy import ops
from etd_tf.losses.base import Features, Loss, ModelSpec, check_dims, dims_setting
from etd_tf.losses.reductions import check_same_shape, constant, half_squared_distance, to_float32
from etd_tf.settings import setting
from etd_tf.types import Tensor


def embedding_loss(student: Tensor, teacher: Tensor, *, dims: tuple[int, ...] = ()) -> Tensor:
    """1 - cosine of two sentence vectors of each text.

    Args:
        student: Float `[B, D]`.
        teacher: Same shape; gets no gradient.
        dims: The mean is also over the vectors' first so many numbers, for each of them.

    Returns:
        Float32 scalar: the mean over the batch, to which vectors of zeros add 0.

    Raises:
        InputError: The shapes differ.

    Source: Reimers and Gurevych 2020 (arXiv 2004.09813), equation 1, of vectors of length 1;
    Vujanic and Rueckstiess 2025 (arXiv 2509.12539); for `dims` Kusupati et al. 2022 (arXiv
    2205.13147).
    """
    check_same_shape(student, teacher, "sentence vectors", "Map the student's to that width.")
    ours, theirs = to_float32(student), constant(teacher)
    parts = [
        ops.mean(half_squared_distance(ours[:, :size], theirs[:, :size]))
        for size in (ours.shape[-1], *dims)
    ]
    return ops.mean(ops.stack(parts))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding(Loss):
    """How far each text's vector points away from the teacher's.

    Where the widths differ, a linear map brings the student's vectors to the teacher's width.
    It is trained along, and dropped or kept in the student.

    Args:
        keep_map: Whether the map stays in the student, as a dense layer behind the pooling:
            then both models' vectors can be compared with each other.
        matryoshka: Sizes; the vectors' first so many numbers are compared, too.

    Raises:
        InputError: A size is not positive.
    """

    name = "embedding"
    summary = "the cosine of sentence vectors"
    terms = ("vector_loss",)
    needs_internals = False
    needs_vectors = True
    needs_map = True

    keep_map: bool = setting(
        False, "Keep the map to the teacher's vectors in the student, as a dense layer."
    )
    matryoshka: tuple[int, ...] = dims_setting()

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks that the vectors are longer than their parts; see the base class."""
        del student
        check_dims(self.matryoshka, teacher.vector_size, "teacher")

    def compute_terms(
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the single term; see the base class."""
        del projections
        return {
            "vector_loss": embedding_loss(student.mapped, teacher.vectors, dims=self.matryoshka)
        }
