"""What a student imitates on a task: states, whole layers or logits of a fine-tuned teacher."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from etd_tf.evaluation.classifiers import SequenceClassifier, TaskModel
from etd_tf.evaluation.training import Loss as BatchLoss
from etd_tf.losses.base import Features, Loss
from etd_tf.modeling.attention import padding_bias
from etd_tf.modeling.layers import Dense
from etd_tf.training.dependence import find_dependent
from etd_tf.types import Array, Tensor

STATE, TEACHER_LOGITS = "teacher_state", "teacher_logits"
"""What a batch calls the teacher's outputs."""

_RIDGE = 1e-3  # of the mean square of the student's states


class StateMatcher(keras.Model):
    """A student and the linear map of its states to the teacher's width.

    Args:
        model: The student; its encoder is shared. Of a classifier of texts the state is the one
            that its head reads, see `Reading.states`, else those of all tokens.
        width: H, of the teacher.
    """

    def __init__(self, model: TaskModel, width: int) -> None:
        super().__init__(dtype=model.dtype_policy, name="state_matcher", autocast=False)
        self.student, self.of_tokens = model, model.serves_tokens
        hidden = model.config.hidden_size
        self.projection = Dense(hidden, width, dtype=self.dtype_policy, name="projection")
        self.built = True

    def call(
        self,
        inputs: Mapping[str, Tensor],
        training: bool = False,
        dropout_seed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Maps a batch: `state`, float32 `[B, H]`; of twins `[B, 2, H]`, of tokens `[B, T, H]`."""
        states = self.own_states(inputs, training=training, dropout_seed=dropout_seed)
        return {"state": ops.cast(self.projection(states), "float32")}

    def own_states(self, inputs: Mapping[str, Tensor], **options: Any) -> Tensor:
        """The student's states before the map."""
        trace = self.student.encoder.trace(inputs, **options)
        if not isinstance(self.student, SequenceClassifier):
            return trace.sequence_output
        return self.student.reading.by_example(self.student.states(trace, inputs))


def compared(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """What of a batch the teacher says something about.

    Args:
        found: The student's, `[B, C]`, of tokens `[B, T, C]`, or of both texts `[B, 2, C]`.
        wanted: The teacher's, `[B, C]`, or `[B, L, C]` with L at least T, NaN where a token
            stands for no word.

    Returns:
        Both as they are, or of the words or texts alone, `[n, C]`.
    """
    if len(wanted.shape) == 2:
        return found, wanted
    wanted = wanted[:, : ops.shape(found)[1]]
    known = tf.math.is_finite(wanted[..., 0])
    return tf.boolean_mask(found, known), tf.boolean_mask(wanted, known)


def state_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean squared error of `state` `[B, H]` against the batch's `teacher_state`; or of words."""
    return ops.mean(ops.square(ops.subtract(*compared(outputs["state"], batch[STATE]))))


class LayerMatcher(keras.Model):
    """A student beside its teacher, which reads each batch, too, and a loss on their layers.

    Args:
        model: The student; its encoder is shared.
        teacher: The teacher, which is not trained.
        loss: The loss.
        selection: `[H', H]`, which teacher channel each of the student's was cut from, with which
            the loss' projections begin; None for random ones.
    """

    def __init__(
        self, model: TaskModel, teacher: TaskModel, loss: Loss, selection: Array | None = None
    ) -> None:
        super().__init__(dtype=model.dtype_policy, name="layer_matcher", autocast=False)
        self.encoder, self.teacher, self._objective = model.encoder, teacher.encoder, loss
        self.teacher.trainable = False
        self._selection = selection
        made = loss.projections(teacher.config, model.config, selection)
        self.projections: dict[str, Dense] = dict(made)
        self.built = True

    def trained(self) -> list[Any]:
        """What the loss depends on: most losses do not read all of the student."""
        layers: list[Any] = [self.encoder, *self.projections.values()]
        variables = [v for layer in layers for v in layer.trainable_variables]
        names = ("token_ids", "segment_ids", "padding_mask")
        specs = dict.fromkeys(names, tf.TensorSpec([None, None], tf.int32))
        found = find_dependent(
            lambda batch: self(batch)["loss"], variables, specs, tf.distribute.get_strategy()
        )
        return [variable for variable in variables if id(variable) in found]

    def restart(self, seed: int) -> None:
        """Lets the projections begin anew."""
        generator = np.random.default_rng(seed)
        for layer in self.projections.values():
            shape = tuple(layer.kernel.shape)
            border = np.sqrt(6 / sum(shape))  # Glorot's
            drawn = generator.uniform(-border, border, shape)
            layer.kernel.assign(drawn if self._selection is None else self._selection)
            layer.bias.assign(np.zeros(shape[1]))

    def call(
        self,
        inputs: Mapping[str, Tensor],
        training: bool = False,
        dropout_seed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compares a batch: `loss`, a float32 scalar."""
        ours = self.encoder.trace(inputs, training=training, dropout_seed=dropout_seed)
        theirs = Features(self.teacher.trace(inputs))
        found = self._objective.compute_loss(theirs, Features(ours), self.projections)
        return {"loss": found}


def layer_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """The loss that `LayerMatcher` computed."""
    del batch
    return outputs["loss"]


def logit_loss(temperature: float | None) -> BatchLoss:
    """The loss against the teacher's logits.

    Args:
        temperature: T, or None.

    Returns:
        Of `logits` and the batch's `teacher_logits` `[B, C]`, or those of words: their mean squared
        error where T is None (XtremeDistil) or C is 1; else T^2 times the cross-entropy of the
        student's softmax at T against the teacher's (TinyBERT, Jiao et al. 2019, arXiv
        1909.10351).
    """

    def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits, teacher = compared(outputs["logits"], batch[TEACHER_LOGITS])
        if temperature is None or logits.shape[-1] == 1:
            return ops.mean(ops.square(ops.subtract(logits, teacher)))
        return _soft_cross_entropy(logits, teacher, temperature)

    return loss


def span_logit_loss(temperature: float | None) -> BatchLoss:
    """The loss against the teacher's logits of answers' first and last tokens.

    Args:
        temperature: T, or None.

    Returns:
        Of `start_logits` and `end_logits` `[B, T]` and the batch's `teacher_logits` `[B, U, 2]`,
        padded at the end: as `logit_loss`, over the real tokens in the place of classes; the
        squared error is the mean of each example, then over the batch.
    """

    def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits = ops.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)
        length = ops.shape(logits)[2]
        teacher = ops.transpose(batch[TEACHER_LOGITS][:, :length], (0, 2, 1))
        mask = ops.expand_dims(ops.cast(batch["padding_mask"], "float32"), 1)
        if temperature is None:
            errors = ops.multiply(ops.square(ops.subtract(logits, teacher)), mask)
            counts = ops.sum(mask, axis=2)
            return ops.mean(ops.divide(ops.sum(errors, axis=2), counts))
        bias = ops.expand_dims(padding_bias(batch["padding_mask"]), 1)
        padded = ops.add(logits, bias), ops.add(teacher, bias)
        return _soft_cross_entropy(*padded, temperature)

    return loss


def _soft_cross_entropy(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    wanted = ops.softmax(ops.divide(teacher, temperature), axis=-1)
    found = ops.log_softmax(ops.divide(logits, temperature), axis=-1)
    entropy = ops.negative(ops.mean(ops.sum(ops.multiply(wanted, found), axis=-1)))
    return ops.multiply(temperature**2, entropy)


def least_squares(inputs: Array, outputs: Array) -> tuple[Array, Array]:
    """Fits a linear map with a bias, with a slight ridge against collinear inputs.

    Args:
        inputs: `[n, A]`.
        outputs: `[n, B]`.

    Returns:
        Float32 kernel `[A, B]` and bias `[B]`.
    """
    x, y = inputs.astype(np.float64), outputs.astype(np.float64)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    ridge = _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    kernel = np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T @ y)
    return kernel.astype(np.float32), (mean_y - mean_x @ kernel).astype(np.float32)
