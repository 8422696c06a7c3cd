"""One pass of the teacher for several students, or ahead of the step that needs it."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from etd_tf.distillation.distiller import Distiller
from etd_tf.losses.base import Features
from etd_tf.types import Tensor


class SharedTeacher:
    """Runs the teacher apart from the students, for just the features that their losses read.

    Between two compiled functions a feature is computed and kept whether it is read or not,
    unlike inside of one; so a trace of the losses finds out beforehand which ones are.

    Args:
        distillers: Distillers of equal teachers, one a student.
        strategy: What their variables were created under.
    """

    def __init__(self, distillers: Sequence[Distiller], strategy: tf.distribute.Strategy) -> None:
        self._distillers = tuple(distillers)
        self._source = teacher_source(distillers)
        self._used: list[int] = []
        self._empty: Any = None
        with strategy.scope():
            tf.function(lambda: strategy.run(self._trace), autograph=False).get_concrete_function()

    def read(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Runs the teacher.

        Args:
            batch: As for `Distiller.fit`.

        Returns:
            What the losses read, for `restore`.
        """
        leaves = tf.nest.flatten(self._source.teacher_features(batch))
        return [leaves[index] for index in self._used]

    def restore(self, values: Sequence[Tensor]) -> Features | None:
        """Puts the features back in their places.

        Args:
            values: What `read` returned.

        Returns:
            The features, with None for those that no loss reads.
        """
        if self._empty is None:
            return None
        leaves: list[Any] = [None] * len(tf.nest.flatten(self._empty))
        for index, value in zip(self._used, values, strict=True):
            leaves[index] = value
        return tf.nest.pack_sequence_as(self._empty, leaves)

    def _trace(self) -> Tensor:
        names = {name for distiller in self._distillers for name in distiller.input_names}
        batch = {name: tf.ones([1, 2], tf.int32) for name in sorted(names)}
        features = self._source.teacher_features(batch)
        leaves = [None if leaf is None else tf.identity(leaf) for leaf in tf.nest.flatten(features)]
        given = tf.nest.pack_sequence_as(features, leaves)
        seed = tf.zeros([2], tf.int32)
        for distiller in self._distillers:
            distiller.distillation_loss(batch, training=True, dropout_seed=seed, teacher=given)
        self._used = [i for i, leaf in enumerate(leaves) if leaf is not None and leaf.consumers()]
        if features is not None:
            self._empty = tf.nest.map_structure(lambda _: None, features)
        return tf.constant(0.0)


def teacher_source(distillers: Sequence[Distiller]) -> Distiller:
    """The distiller whose teacher features serve all: the one that reads most of them."""
    return max(distillers, key=_reads)


def _reads(distiller: Distiller) -> tuple[bool, bool]:
    """Orders distillers by how much of the teacher they need."""
    losses = distiller.distillation_losses
    return (
        any(loss.needs_teacher for loss in losses),
        any(loss.needs_teacher and loss.needs_mlm for loss in losses),
    )
