"""Sentence vectors while a student is distilled, and the map to the teacher's width."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.distillation.features import compute_features
from etd_tf.errors import InputError
from etd_tf.losses.base import Features, Loss
from etd_tf.modeling.layers import Dense
from etd_tf.modeling.pooling import DenseLayer, Pooling
from etd_tf.types import Array, Tensor

_VECTORS_PER_CHANNEL = 2  # of the student, behind the principal directions


class SentenceVectors:
    """The sentence vectors that losses compare, and the map between the models' widths.

    The map acts on pooled states, before dense layers of the teacher. Without bias it would
    not matter whether a mean is taken before it or after; so losses on states share it.

    Args:
        teacher: The teacher.
        student: The student.
        losses: The losses.
        selection: `[H', H]` matrix that maps student channels to the teacher channels they
            were cut from, with which the map begins; None for orthogonal random rows.

    Attributes:
        needed: Whether a loss reads sentence vectors.
        projections: The map by its name, where the widths differ and a loss needs it.
        teacher_size: Numbers of a vector of the teacher; 0 where none is needed.

    Raises:
        InputError: The matrix has another shape.
    """

    def __init__(
        self,
        teacher: Checkpoint,
        student: Checkpoint,
        losses: Sequence[Loss],
        selection: Array | None,
    ) -> None:
        self.needed = any(loss.needs_vectors for loss in losses)
        maps = [loss for loss in losses if loss.needs_map]
        widths = student.config.hidden_size, teacher.config.hidden_size
        self.projections: dict[str, Dense] = {}
        if maps and widths[0] != widths[1]:
            self.projections = {"map": make_map(*widths, selection)}
        self._student = student
        self._keeps = bool(self.projections) and any(
            getattr(one, "keep_map", False) for one in maps
        )
        self._maps = any(loss.needs_vectors for loss in maps)
        self.teacher_size = 0
        if self.needed:
            self._pooling = pooling_of(teacher)
            self.teacher_size = self._pooling.dimension(widths[1])
            self._own = student.pooling or self._pooling.for_student(widths[0])

    def of_teacher(self, features: Features) -> Features:
        """Adds the teacher's sentence vectors to its features."""
        return features._replace(vectors=sentence_vectors(self._pooling, features))

    def of_student(self, features: Features) -> Features:
        """Adds the student's own sentence vectors and those in the teacher's space."""
        mapped = None
        if self._maps:
            mapped = sentence_vectors(self._pooling, features, self.projections.get("map"))
        own = mapped if self._keeps else sentence_vectors(self._own, features)
        return features._replace(vectors=own, mapped=mapped)

    def student_pooling(self) -> Pooling | None:
        """How the trained student makes a sentence vector: with the map, if it is to be kept."""
        if not self._keeps:
            return self._student.pooling
        layer, count = self.projections["map"], len(self._pooling.modes)
        kernel, bias = map(ops.convert_to_numpy, (layer.kernel, layer.bias))
        blocks = np.kron(np.eye(count, dtype=np.float32), kernel)
        map_layer = DenseLayer(blocks, np.tile(bias, count))
        return dataclasses.replace(self._pooling, dense=(map_layer, *self._pooling.dense))


def pooling_of(checkpoint: Checkpoint) -> Pooling:
    """How a teacher makes a sentence vector; where it does not say, by the mean of its states.

    Returns:
        Its pooling; a missing one is told.
    """
    if checkpoint.pooling is not None:
        return checkpoint.pooling
    logging.warning(
        "%s does not say how it makes a sentence vector; the mean of the last states is taken.",
        checkpoint.source or "The teacher",
    )
    return Pooling()


def as_selection_matrix(selection: Any) -> Array | None:
    """The float32 `[H', H]` matrix of an extraction plan or array, or None."""
    if selection is None:
        return None
    matrix = selection.selection_matrix() if hasattr(selection, "selection_matrix") else selection
    return np.asarray(matrix, np.float32)


def make_map(student: int, teacher: int, selection: Array | None) -> Dense:
    """Creates the map from the student's last states to the teacher's width.

    Args:
        student: The student's width H'.
        teacher: The teacher's width H.
        selection: `[H', H]` matrix with which the map begins; None for orthogonal random rows.

    Raises:
        InputError: The matrix has another shape.
    """
    shape = student, teacher
    kernel = keras.initializers.Orthogonal()(shape) if selection is None else selection
    if tuple(kernel.shape) != shape:
        raise InputError(
            f"The selection matrix has shape {tuple(kernel.shape)}; a student of width {student} "
            f"and a teacher of width {teacher} need {shape}. Pass the plan that this student was "
            "extracted with."
        )
    layer = Dense(student, teacher, dtype="float32", name="map")
    layer.kernel.assign(kernel)
    return layer


def sentence_vectors(pooling: Pooling, features: Features, layer: Dense | None = None) -> Tensor:
    """Makes one vector of each row.

    Args:
        pooling: How.
        features: Of the model.
        layer: Applied to the pooled states, before the pooling's dense layers.

    Returns:
        Float32 `[B, D]`, not normalised; zeros for rows that are all padding.
    """
    states, mask = features.trace.sequence_output, features.trace.padding_mask
    is_text = ops.any(ops.greater(mask, 0), axis=1)[:, None]
    alone = dataclasses.replace(pooling, dense=(), normalize=False, truncate_dim=None)
    # The largest of no states is minus infinity: it must not reach a matrix product.
    vectors = ops.where(is_text, alone(states, mask), 0.0)
    if layer is not None:
        parts = ops.split(vectors, len(pooling.modes), axis=-1)
        vectors = ops.concatenate([layer(part) for part in parts], axis=-1)
    for dense in pooling.dense:
        vectors = dense(vectors)
    return ops.where(is_text, vectors[:, : pooling.truncate_dim], 0.0)


def principal_directions(
    teacher: Checkpoint, batches: Iterable[Mapping[str, Any]], count: int
) -> Array:
    """Finds where the teacher's pooled states vary most.

    With that the map of a student can begin that was not cut from its teacher.

    Args:
        teacher: The teacher.
        batches: Text, as for `Distiller.fit`; as many batches are read as are needed.
        count: The student's width H'.

    Returns:
        Orthonormal rows, float32 `[H', H]`.
    """
    pooling = dataclasses.replace(teacher.pooling or Pooling(), dense=(), truncate_dim=None)
    width, found = teacher.config.hidden_size, np.empty([0, teacher.config.hidden_size])
    for batch in batches:
        vectors = sentence_vectors(pooling, compute_features(teacher, batch, mlm=False))
        found = np.concatenate([found, np.reshape(ops.convert_to_numpy(vectors), (-1, width))])
        if len(found) >= _VECTORS_PER_CHANNEL * count:
            break
    centred = found - found.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return directions[:, ::-1][:, :count].T.astype(np.float32)
