"""DynaBERT's score: gradients of each batch, and for neurons those of their weights."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etd_tf.extraction.gates import UnitValues, gate_and_weight_gradients
from etd_tf.extraction.metrics.metric import GradientMetric, UnitScorer
from etd_tf.lazy import tf
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint


class DynaBert(GradientMetric):
    """Per-batch scores as in DynaBERT, with gradients cleared between batches.

    A neuron's score is abs(Σ W1⊙dW1 + b1·db1) + abs(Σ W2⊙dW2) over its own weights. The
    second sum equals the gradient of the neuron's gate, which is used here. Units that
    DynaBERT does not rank (channels, dims) get the absolute per-batch gate gradient.

    Source: Hou et al. 2020 (arXiv 2004.04037), section 2.2.
    """

    name = "dynabert"
    title = "DynaBERT's score"
    summary = "DynaBERT's product of weights and gradients, by batch"

    def scorer(
        self, teacher: "Checkpoint", objective: Any = None, *, jit_compile: bool = False
    ) -> UnitScorer:
        """See `TextMetric.scorer`."""
        layers = teacher.encoder.encoder_layers
        kernels = [layer.intermediate.kernel for layer in layers]
        biases = [layer.intermediate.bias for layer in layers]

        def step(tensors: Mapping[str, Tensor], weights: Tensor) -> UnitValues:
            gradients, by_weight = gate_and_weight_gradients(
                teacher.encoder,
                tensors,
                lambda trace: weights * objective.losses(trace, dict(tensors)),
                [variable.value for variable in (*kernels, *biases)],
            )
            changes = zip(by_weight[: len(layers)], by_weight[len(layers) :], strict=True)
            into = tf.stack(
                [
                    tf.reduce_sum(kernel * dk, axis=0) + bias * db
                    for kernel, bias, (dk, db) in zip(kernels, biases, changes, strict=True)
                ]
            )
            scores = UnitValues(*(tf.abs(tf.reduce_sum(part, axis=0)) for part in gradients))
            return scores._replace(ffn=scores.ffn + tf.abs(into))

        return UnitScorer(step, jit_compile=jit_compile)
