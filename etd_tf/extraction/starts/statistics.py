"""Second moments of a teacher's activations at every place where units are cut.

With them the cut units can be predicted from the kept ones by least squares, whatever
units a plan keeps; see `compensation`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.modeling.structure import SITES
from etd_tf.progress import track
from etd_tf.types import Array, Tensor

RESOLUTION = 1e-6
"""Share of a mean second moment below which sums in float32 cannot tell a variance from 0."""


@dataclasses.dataclass(frozen=True)
class ActivationStatistics:
    """Gram matrices of a teacher's activations, over the real tokens of some examples.

    Each matrix is the sum of z z^T over tokens, z being the activations followed by a 1; it
    holds count, means and second moments of all units of a site.

    Attributes:
        layers: Teacher layers, counted from 1, that were measured.
        grams: By site (`SITES`), one float64 matrix a layer: `[H + 1, H + 1]` for the
            inputs of attention and feed-forward and for the head contexts (column n * D
            + d is dim d of head n), `[F + 1, F + 1]` for the inner activations.
        teacher_fingerprint: `Checkpoint.fingerprint()` of the teacher.
    """

    layers: tuple[int, ...]
    grams: Mapping[str, Sequence[Array]]
    teacher_fingerprint: str | None = None

    @property
    def num_tokens(self) -> int:
        """Real tokens that the sums run over."""
        return round(float(self.grams[SITES[0]][0][-1, -1]))

    def moments(self, site: str, layer: int) -> tuple[Array, Array]:
        """Mean `[U]` and covariance `[U, U]` of a site's units.

        Args:
            site: One of `SITES`.
            layer: Teacher layer, counted from 1.

        Returns:
            Float64 mean and covariance.

        Raises:
            InputError: The layer was not measured.
        """
        if layer not in self.layers:
            raise InputError(
                f"The statistics lack teacher layer {layer}; they hold {self.layers}. "
                "Collect them for the layers of the plan."
            )
        gram = self.grams[site][self.layers.index(layer)]
        mean = gram[-1, :-1] / gram[-1, -1]
        return mean, gram[:-1, :-1] / gram[-1, -1] - np.outer(mean, mean)


def collect_statistics(
    teacher: Checkpoint,
    examples: Mapping[str, Array],
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
) -> ActivationStatistics:
    """Measures second moments with one forward pass over the examples.

    Args:
        teacher: The teacher.
        examples: As for `score_units`.
        layers: Teacher layers to measure, counted from 1; default all.
        batch_size: Examples a step.

    Raises:
        InputError: The examples do not fit the teacher or are all padding, or a layer does
            not exist.
    """
    inputs = ScoringInputs.from_examples(examples, teacher.config)
    count = teacher.config.num_layers
    wanted = tuple(range(1, count + 1)) if layers is None else tuple(layers)
    if not wanted or not all(1 <= layer <= count for layer in wanted):
        raise InputError(f"layers={wanted} are not among the teacher's layers 1 to {count}.")

    encoder = teacher.encoder  # built before the step is traced

    @tf.function
    def grams(tensors: Mapping[str, Tensor], weights: Tensor) -> list[Tensor]:
        trace = encoder.trace(tensors)
        real = tf.cast(tensors["padding_mask"], tf.float32) * weights[:, None]
        places = (trace.layer_inputs, trace.contexts, trace.ffn_inputs, trace.inners)  # as SITES
        return [_gram(values[layer - 1], real) for layer in wanted for values in places]

    total: list[Array] = []
    with track("Collecting statistics", inputs.num_examples, "examples") as progress:
        for batch in inputs.batches(batch_size):
            part = [np.asarray(gram, np.float64) for gram in grams(batch.inputs, batch.weights)]
            total = [a + b for a, b in zip(total, part, strict=True)] if total else part
            progress.advance(batch.size)
    by_site = {site: total[place :: len(SITES)] for place, site in enumerate(SITES)}
    return ActivationStatistics(wanted, by_site, teacher.fingerprint())


def _gram(values: Tensor, real: Tensor) -> Tensor:
    rows = tf.reshape(tf.cast(values, tf.float32), (-1, values.shape[-1]))
    rows = tf.concat([rows, tf.ones_like(rows[:, :1])], axis=1) * tf.reshape(real, (-1, 1))
    return tf.matmul(rows, rows, transpose_a=True)
