"""How a unit's importance is measured; every metric gives the same set of arrays.

| metric       | score of unit u                                                     |
| `taylor`     | Σ_x abs(G[x,u]) (masked-LM loss) or Σ_x G[x,u]² (reconstruction)    |
| `dynabert`   | Σ_batches abs(Σ_x G[x,u]), for neurons from the weights' gradients  |
| `activation` | L2 norm over examples of the mean absolute activation               |
| `magnitude`  | L2 norm of the unit's weights; needs no data                        |

G[x,u] is the gradient of example x's loss for the unit's gate (see `gates`).
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.extraction.gates import UnitValues, gate_and_weight_gradients, gate_gradients
from etd_tf.extraction.objectives import Objective
from etd_tf.extraction.sites import LayerSites, trace_sites
from etd_tf.modeling.config import BertConfig
from etd_tf.types import Array, Parameters, Tensor

Step = Callable[[Mapping[str, Tensor], Tensor], UnitValues]
"""Maps a prepared batch and its example weights `[B]` to the batch's share of a sum."""


class UnitScorer:
    """Adds up a metric over batches, in float64.

    Args:
        step: The batch's share.
        finish: Turns the sum into scores; default: the hidden sites are added up.
        jit_compile: Compile the step with XLA.
    """

    def __init__(
        self,
        step: Step,
        finish: Callable[[UnitValues], UnitValues] | None = None,
        *,
        jit_compile: bool = False,
    ) -> None:
        self._step = tf.function(step, jit_compile=jit_compile)
        self._finish = finish or _add_sites
        self._total: UnitValues | None = None

    def accumulate(self, tensors: Mapping[str, Tensor], weights: Tensor) -> None:
        """Adds one batch.

        Args:
            tensors: What the objective prepared, or the encoder's inputs.
            weights: Float32 `[B]`, 0 for filling.
        """
        share = self._step(dict(tensors), weights)
        share = UnitValues(*(np.asarray(part, np.float64) for part in share))
        total = self._total
        if total is not None:
            share = UnitValues(*(a + b for a, b in zip(total, share, strict=True)))
        self._total = share

    def result(self) -> UnitValues:
        """Returns the scores of everything accumulated so far.

        Raises:
            RuntimeError: Nothing has been accumulated.
        """
        if self._total is None:
            raise RuntimeError("UnitScorer.result() was called before accumulate().")
        return self._finish(self._total)


def _add_sites(total: UnitValues) -> UnitValues:
    return total._replace(hidden=total.hidden.sum(axis=0))


def taylor_scorer(
    teacher: Checkpoint, objective: Objective, *, jit_compile: bool = False
) -> UnitScorer:
    """Per-example first-order Taylor scores through gates.

    The sign is removed in each example, before the sum, so that the score does not depend
    on how examples are batched and opposite effects do not cancel.

    Args:
        teacher: The checkpoint to score.
        objective: The loss; absolute values for `mlm`, squares for `reconstruction`.
        jit_compile: Compile the step with XLA.

    Returns:
        The scorer.

    Source: Michel et al. 2019 (arXiv 1905.10650), equation 2; Molchanov et al. 2019
    (arXiv 1906.10771), equation 8.
    """
    size = tf.abs if objective.name == "mlm" else tf.square

    def step(tensors: Mapping[str, Tensor], weights: Tensor) -> UnitValues:
        gradients = gate_gradients(
            teacher.encoder, tensors, lambda trace: objective.losses(trace, dict(tensors))
        )
        return UnitValues(*(_weighted_sum(size(part), weights) for part in gradients))

    return UnitScorer(step, jit_compile=jit_compile)


def dynabert_scorer(
    teacher: Checkpoint, objective: Objective, *, jit_compile: bool = False
) -> UnitScorer:
    """Per-batch scores as in DynaBERT, with gradients cleared between batches.

    A neuron's score is abs(Σ W1⊙dW1 + b1·db1) + abs(Σ W2⊙dW2) over its own weights. The
    second sum equals the gradient of the neuron's gate, which is used here. Units that
    DynaBERT does not rank (channels, dims) get the absolute per-batch gate gradient.

    Args:
        teacher: The checkpoint to score.
        objective: The loss.
        jit_compile: Compile the step with XLA.

    Returns:
        The scorer.

    Source: Hou et al. 2020 (arXiv 2004.04037), section 2.2.
    """
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
        by_kernel, by_bias = by_weight[: len(layers)], by_weight[len(layers) :]
        into = tf.stack(
            [
                tf.reduce_sum(kernel * dk, axis=0) + bias * db
                for kernel, bias, dk, db in zip(kernels, biases, by_kernel, by_bias, strict=True)
            ]
        )
        scores = UnitValues(*(tf.abs(tf.reduce_sum(part, axis=0)) for part in gradients))
        return scores._replace(ffn=scores.ffn + tf.abs(into))

    return UnitScorer(step, jit_compile=jit_compile)


def activation_scorer(teacher: Checkpoint, *, jit_compile: bool = False) -> UnitScorer:
    """Forward-only scores as in Minitron: L2 over examples, mean over positions.

    Channels are read after every LayerNorm (summed over sites), neurons before the
    activation function, heads as the norm of their context. Dims inside a head, which
    Minitron does not rank, are read from the context (values) and as the product of the
    mean absolute query and key.

    Args:
        teacher: The checkpoint to score.
        jit_compile: Compile the step with XLA.

    Returns:
        The scorer.

    Source: Muralidharan et al. 2024 (arXiv 2407.14679), section 2.2 and table 12.
    """

    def step(tensors: Mapping[str, Tensor], weights: Tensor) -> UnitValues:
        sites = trace_sites(teacher.encoder, tensors)
        means = _mean_activations(sites, tf.cast(tensors["padding_mask"], tf.float32))
        return UnitValues(*(_weighted_sum(tf.square(part), weights) for part in means))

    def finish(total: UnitValues) -> UnitValues:
        return _add_sites(UnitValues(*(np.sqrt(part) for part in total)))

    return UnitScorer(step, finish, jit_compile=jit_compile)


def _mean_activations(sites: list[LayerSites], real: Tensor) -> UnitValues:
    """Mean absolute activation over the real tokens of each example, `[B, ...]`."""
    share = real / tf.maximum(tf.reduce_sum(real, axis=1, keepdims=True), 1.0)

    def channels(x: Tensor) -> Tensor:  # [B, T, U] -> [B, U]
        return tf.einsum("bt,btu->bu", share, tf.abs(tf.cast(x, tf.float32)))

    def dims(x: Tensor) -> Tensor:  # [B, N, T, D] -> [B, N, D]
        return tf.einsum("bt,bntd->bnd", share, tf.abs(tf.cast(x, tf.float32)))

    hidden = [sites[0].attention_input]
    hidden += [x for site in sites for x in (site.ffn_input, site.output)]
    norms = [tf.norm(tf.cast(site.context, tf.float32), axis=-1) for site in sites]
    return UnitValues(
        hidden=tf.stack([channels(x) for x in hidden], axis=1),
        ffn=tf.stack([channels(site.preactivation) for site in sites], axis=1),
        query_key=tf.stack([dims(site.queries) * dims(site.keys) for site in sites], axis=1),
        value=tf.stack([dims(site.context) for site in sites], axis=1),
        heads=tf.stack([tf.einsum("bt,bnt->bn", share, x) for x in norms], axis=1),
    )


def _weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sums over the leading axis B with weights `[B]`."""
    return tf.tensordot(weights, values, axes=1)


def weight_magnitude(parameters: Parameters, config: BertConfig) -> UnitValues:
    """L2 norm of all kernel and embedding entries that go with a unit.

    Args:
        parameters: The teacher's weights by canonical name.
        config: Its architecture.

    Returns:
        The scores.

    Source: Han et al. 2015 (arXiv 1506.02626), applied to whole units as in Li et al.
    2016 (arXiv 1608.08710).
    """

    def squares(name: str, axis: int) -> Array:
        return np.square(parameters[name], dtype=np.float64).sum(axis=axis)

    tables = ("token", "position", "segment")
    hidden = sum(squares(f"embeddings.{table}", 0) for table in tables)
    ffn, query_key, value = [], [], []
    for index in range(config.num_layers):
        layer, attention = f"layers.{index}", f"layers.{index}.attention"
        for reader in ("attention.query", "attention.key", "attention.value", "intermediate"):
            hidden = hidden + squares(f"{layer}.{reader}.kernel", 1)
        for writer in ("attention.output", "output"):
            hidden = hidden + squares(f"{layer}.{writer}.kernel", 0)
        ffn.append(
            squares(f"{layer}.intermediate.kernel", 0) + squares(f"{layer}.output.kernel", 1)
        )
        query_key.append(
            squares(f"{attention}.query.kernel", 0) + squares(f"{attention}.key.kernel", 0)
        )
        value.append(
            squares(f"{attention}.value.kernel", 0) + squares(f"{attention}.output.kernel", 1)
        )
    shape = (config.num_layers, config.num_heads, config.head_size)
    dims = [np.stack(part).reshape(shape) for part in (query_key, value)]
    heads = dims[0].sum(axis=-1) + dims[1].sum(axis=-1)
    return UnitValues(*(np.sqrt(x) for x in (hidden, np.stack(ffn), *dims, heads)))
