"""The gradient of a unit's gate, without its sign: the score of ETD-Impt.

With G[x,u] the gradient of example x's loss for the gate of unit u (see `gates`), the
score is the sum over x of abs(G[x,u]) for the masked-LM loss, and of its square for
reconstruction.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etd_tf.extraction.gates import UnitValues, gate_gradients
from etd_tf.extraction.metrics.metric import GradientMetric, UnitScorer, weighted_sum
from etd_tf.lazy import tf
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint


class Taylor(GradientMetric):
    """Per-example first-order Taylor scores through gates.

    The sign is removed in each example, before the sum, so that the score does not depend
    on how examples are batched and opposite effects do not cancel.

    Source: Michel et al. 2019 (arXiv 1905.10650), equation 2; Molchanov et al. 2019
    (arXiv 1906.10771), equation 8.
    """

    name = "taylor"
    title = "first-order Taylor"
    summary = "ETD-Impt's gradient score"

    def scorer(
        self, teacher: "Checkpoint", objective: Any = None, *, jit_compile: bool = False
    ) -> UnitScorer:
        """See `TextMetric.scorer`."""
        encoder = teacher.encoder  # built before the step is traced
        size = tf.abs if objective.name == "mlm" else tf.square

        def step(tensors: Mapping[str, Tensor], weights: Tensor) -> UnitValues:
            gradients = gate_gradients(
                encoder, tensors, lambda trace: objective.losses(trace, dict(tensors))
            )
            return UnitValues(*(weighted_sum(size(part), weights) for part in gradients))

        return UnitScorer(step, jit_compile=jit_compile)
