"""What a distillation loss reads, and the interface between losses and the Distiller."""

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.encoder import EncoderTrace
from etd_tf.types import Tensor


class ModelSpec(NamedTuple):
    """What a loss must know about a model before anything runs.

    Attributes:
        config: Its architecture.
        mlm_head: Whether it has a masked-LM head.
    """

    config: BertConfig
    mlm_head: bool = False


class Features(NamedTuple):
    """What one model computed for a batch.

    Attributes:
        trace: All internal states of the encoder.
        mlm_logits: Float32 `[B, P, V]` at the masked positions; None unless a loss needs it.
        mlm_labels: Int32 `[B, P]`, the original token ids there.
        mlm_weights: `[B, P]`, 1 for masked positions, 0 for filling.
    """

    trace: EncoderTrace
    mlm_logits: Tensor | None = None
    mlm_labels: Tensor | None = None
    mlm_weights: Tensor | None = None


class FeatureLoss(keras.distillation.DistillationLoss, abc.ABC):
    """Base of the losses that `etd_tf.Distiller` takes.

    A loss is a weighted sum of named terms, each a pure function of the features of both
    models. Keras' own distillation losses see model outputs only, which for encoders of
    unequal width cannot be compared.

    Attributes:
        needs_teacher: Whether it reads the teacher's features at all.
        needs_mlm: Whether it reads masked-LM logits, labels and weights.
    """

    needs_teacher: bool = True
    needs_mlm: bool = False

    @property
    @abc.abstractmethod
    def term_weights(self) -> dict[str, float]:
        """Weight of each term by name; terms of weight 0 are absent and never computed."""

    @abc.abstractmethod
    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks that the loss is defined for two models.

        Args:
            teacher: The teacher.
            student: The student.

        Raises:
            InputError: It is not; the message names the ways out.
        """

    @abc.abstractmethod
    def compute_terms(
        self,
        teacher: Features | None,
        student: Features,
        projections: Mapping[str, keras.layers.Layer],
    ) -> dict[str, Tensor]:
        """Computes the unweighted terms.

        Args:
            teacher: The teacher's features; None only where `needs_teacher` is False.
            student: The student's features for the same batch.
            projections: The layers that `projections` made.

        Returns:
            Float32 scalars, with the keys of `term_weights`.
        """

    def projections(
        self, teacher: BertConfig, student: BertConfig, selection: np.ndarray | None
    ) -> dict[str, keras.layers.Layer]:
        """Creates the layers to be trained along with the student and then dropped.

        Args:
            teacher: The teacher's architecture.
            student: The student's architecture.
            selection: `[H', H]` matrix that maps student channels to the teacher channels
                they were cut from, or None for a student that was not extracted.

        Returns:
            Layers by name; most losses need none.
        """
        del teacher, student, selection
        return {}

    def compute_loss(
        self,
        teacher_outputs: Features | None,
        student_outputs: Features,
        projections: Mapping[str, keras.layers.Layer] | None = None,
    ) -> Tensor:
        """Computes the weighted sum of all terms.

        Args:
            teacher_outputs: The teacher's features.
            student_outputs: The student's features for the same batch.
            projections: The layers that `projections` made, if any.

        Returns:
            Float32 scalar.
        """
        terms = self.compute_terms(teacher_outputs, student_outputs, projections or {})
        return weighted_sum(terms, self.term_weights)

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Refuses `keras.distillation.Distiller`, which calls this."""
        raise InputError(
            f"{type(self).__name__} reads internal states of BERT encoders, which "
            "keras.distillation.Distiller does not compute. Use etd_tf.Distiller."
        )

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FeatureLoss":
        """Creates the loss that `get_config` described."""
        return cls(**config)


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sums scalars by name, each times its weight; float32."""
    total = ops.convert_to_tensor(0.0, dtype="float32")
    for name, value in terms.items():
        total = ops.add(total, ops.multiply(value, weights[name]))
    return total


def positive_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Drops weights of 0.

    Raises:
        InputError: A weight is negative or not finite, or none is left.
    """
    wrong = {k: v for k, v in weights.items() if not (np.isfinite(v) and v >= 0.0)}
    if wrong:
        raise InputError(f"Loss weights must be finite and not negative; received {wrong}.")
    kept = {name: float(value) for name, value in weights.items() if value > 0.0}
    if not kept:
        raise InputError(f"All loss weights are 0 ({', '.join(weights)}); set at least one.")
    return kept


def layer_index(layer: int, num_layers: int, name: str) -> int:
    """Turns a layer number into an index.

    Args:
        layer: 1..L from the embeddings upwards, or -1..-L from the last layer downwards.
        num_layers: L.
        name: The argument's name, for the message.

    Returns:
        0..L-1.

    Raises:
        InputError: There is no such layer.
    """
    if layer == 0 or not -num_layers <= layer <= num_layers:
        raise InputError(
            f"{name}={layer} does not exist in a model of {num_layers} layers. Layers are "
            f"1 to {num_layers} from below, or -1 (the last) to -{num_layers} from above."
        )
    return layer - 1 if layer > 0 else num_layers + layer
