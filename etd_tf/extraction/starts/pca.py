"""Random weights on the teacher's word embeddings, in their principal directions."""

import dataclasses
from typing import TYPE_CHECKING

from etd_tf.errors import InputError
from etd_tf.extraction.starts.none import RandomWeights
from etd_tf.extraction.starts.start import InitialStudent, Work
from etd_tf.lazy import LazyModule
from etd_tf.types import Array, Parameters

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrincipalEmbeddings(RandomWeights):
    """Embeddings are the teacher's, projected to the principal directions of its words'.

    Unlike in the published code, positions and segments are projected, too, and segments get the
    words' mean: the sum of the three is the teacher's sum, projected.

    Source: Mukherjee et al. 2021 (arXiv 2106.04563), compressed word embeddings.
    """

    def check(self, work: Work) -> None:
        """See `Start.check`: the student has no more channels than its teacher."""
        super().check(work)
        ours, theirs = work.config.hidden_size, work.teacher.config.hidden_size
        if ours > theirs:
            raise InputError(
                f"extraction={self.name} finds at most {theirs} directions, one a channel of the "
                f"teacher; hidden_size={ours} is more. Choose at most {theirs}."
            )

    def make(self, work: Work) -> InitialStudent:
        """See `Start.make`."""
        self.check(work)
        made = super().make(work).checkpoint
        embeddings = principal_embeddings(work.teacher.parameters(), work.config.hidden_size)
        return InitialStudent(made.replace(parameters={**made.parameters(), **embeddings}))


def principal_embeddings(teacher: "Parameters", size: int) -> "Parameters":
    """Projects embeddings to the first principal directions of the words'.

    Args:
        teacher: Arrays of the teacher by canonical name.
        size: Number of directions, H'.

    Returns:
        Float32 `[rows, H']` of words, positions and segments; the words' have mean 0.
    """
    names = [f"embeddings.{name}" for name in ("token", "position", "segment")]
    words, positions, segments = (teacher[name].astype(np.float64) for name in names)
    mean = words.mean(axis=0)
    axes = principal_axes(words - mean, size)
    tables = words - mean, positions, segments + mean
    return {
        name: (table @ axes).astype(np.float32) for name, table in zip(names, tables, strict=True)
    }


def principal_axes(rows: Array, size: int) -> Array:
    """Directions of the largest variance of rows with mean 0.

    Args:
        rows: Float64 `[n, H]`.
        size: How many.

    Returns:
        Orthonormal columns `[H, size]`, the largest first; the largest entry of each is positive.
    """
    _, vectors = np.linalg.eigh(rows.T @ rows)
    axes = vectors[:, ::-1][:, :size]
    largest = np.abs(axes).argmax(axis=0)
    return np.asarray(axes * np.sign(axes[largest, np.arange(size)]))
