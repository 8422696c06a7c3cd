"""Size of a unit's weights."""

from typing import TYPE_CHECKING

import numpy as np

from etd_tf.extraction.gates import UnitValues
from etd_tf.extraction.metrics.metric import Amount, Metric
from etd_tf.modeling.config import BertConfig
from etd_tf.types import Array, Parameters

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.extraction.inputs import ScoringInputs
    from etd_tf.extraction.objectives import Objective


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
