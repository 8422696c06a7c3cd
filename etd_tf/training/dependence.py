"""Finding out which variables a loss depends on."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from etd_tf.types import Tensor


def find_dependent(
    loss: Callable[[Mapping[str, Tensor]], Tensor],
    variables: Sequence[keras.Variable],
    specs: Mapping[str, tf.TensorSpec],
    strategy: tf.distribute.Strategy,
) -> frozenset[int]:
    """Traces a loss once, without running it, to see which gradients exist.

    Args:
        loss: Maps a batch to a scalar.
        variables: Candidates.
        specs: Shapes and dtypes of a batch.
        strategy: What the variables were created under.

    Returns:
        The `id` of each variable that has a gradient.
    """
    found: set[int] = set()

    def gradients(batch: Mapping[str, Tensor]) -> Tensor:
        with tf.GradientTape() as tape:
            value = loss(batch)
        slopes = tape.gradient(value, [variable.value for variable in variables])
        pairs = zip(variables, slopes, strict=True)
        found.update(id(variable) for variable, slope in pairs if slope is not None)
        return value

    def in_replicas(batch: Mapping[str, Tensor]) -> Any:
        return strategy.run(gradients, args=(batch,))

    # Distributed variables can be read only inside of replicas. Lifting the tracing out
    # with tf.init_scope() is no way out: it switches the tape's recording off.
    inside = tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()
    with contextlib.nullcontext() if inside else strategy.scope():
        function = in_replicas if tf.distribute.in_cross_replica_context() else gradients
        tf.function(function, autograph=False).get_concrete_function(specs)
    return frozenset(found)
