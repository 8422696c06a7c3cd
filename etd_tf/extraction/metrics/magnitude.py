"""Size of a unit's weights."""

from typing import TYPE_CHECKING, Any

from etd_tf.extraction.gates import UnitValues
from etd_tf.extraction.metrics.metric import Amount, Metric
from etd_tf.lazy import LazyModule
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.structure import FFN, HIDDEN, QUERY_KEY, VALUE, axis_sizes, weights_of
from etd_tf.types import Parameters

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.extraction.inputs import ScoringInputs
    from etd_tf.extraction.objectives import Objective

np: Any = LazyModule("numpy")  # not for help pages


class Magnitude(Metric):
    """L2 norm of all kernel and embedding entries that go with a unit; needs no text.

    Source: Han et al. 2015 (arXiv 1506.02626), applied to whole units as in Li et al.
    2016 (arXiv 1608.08710).
    """

    name = "magnitude"
    title = "weight magnitude"
    summary = "norms of weights; reads no text"
    reads_text = False

    def score(
        self,
        teacher: "Checkpoint",
        inputs: "ScoringInputs | None" = None,
        objective: "Objective | None" = None,
        *,
        batch_size: int = 1,
        probes: int = 1,
    ) -> UnitValues:
        """See `Metric.score`."""
        return weight_magnitude(teacher.parameters(), teacher.config)

    def flops(self, teacher: "Checkpoint", loss: str, amount: Amount) -> int:
        """Nothing to speak of; see `Metric.flops`."""
        return 0


def weight_magnitude(parameters: Parameters, config: BertConfig) -> UnitValues:
    """Scores of `Magnitude`, of weights by canonical name."""
    sizes = axis_sizes(config)
    by_layer = {
        kind: np.zeros((config.num_layers, sizes[kind])) for kind in (QUERY_KEY, VALUE, FFN)
    }
    hidden = np.zeros(sizes[HIDDEN])
    for name, weight, layer in weights_of(config.num_layers, pooler=False):
        if not weight.is_table:
            continue
        squares = np.square(parameters[name], dtype=np.float64)
        for axis, kind in enumerate(weight.axes):
            share = squares.sum(axis=1 - axis)
            if kind == HIDDEN:
                hidden += share
            elif layer is not None:
                by_layer[kind][layer] += share
    dims = (config.num_layers, config.num_heads, config.head_size)
    query_key, value = (by_layer[kind].reshape(dims) for kind in (QUERY_KEY, VALUE))
    heads = query_key.sum(axis=-1) + value.sum(axis=-1)
    return UnitValues(*(np.sqrt(x) for x in (hidden, by_layer[FFN], query_key, value, heads)))
