"""The Distiller: a Keras model that trains a student encoder on its teacher's features."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.losses.base import FeatureLoss, Features, ModelSpec, weighted_sum
from etd_tf.losses.masked_lm import check_mlm_head, masked_lm_loss
from etd_tf.losses.minilm import MiniLM
from etd_tf.types import Tensor

_INPUTS = ("token_ids", "segment_ids", "padding_mask")
_MASKED_LM_INPUTS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


class Distiller(keras.Model):
    """Trains a student encoder to behave like a larger one inside.

    Ordinary Keras: `compile(optimizer=...)`, then `fit` on a dataset of dictionaries of
    int32 `[B, T]` `token_ids`, `segment_ids` and `padding_mask`. Losses on masked-LM logits
    also need `masked_lm_positions`, `masked_lm_ids` and `masked_lm_weights`, `[B, P]`.
    Argument, attribute and log names are those of `keras.distillation.Distiller`, which
    cannot compare encoders of unequal width; each term of each loss is logged as well.

    A step runs the teacher once (inference mode, no gradient) and the student once. The
    teacher is neither among the distiller's variables nor in what `save` and
    `save_weights` write; projections are, but not in `student`. Gradient clipping of an
    optimizer acts on each replica alone: with several, use the Trainer.

    Args:
        teacher: Where knowledge comes from; never changed.
        student: What is trained, in place.
        distillation_losses: A loss of `etd_tf.losses` or several; None means `MiniLM()`.
        distillation_loss_weights: Weight of each loss; None means 1 for all.
        student_loss_weight: w in [0, 1): the total is (1 - w) times the distillation loss
            plus w times the student's own masked-LM loss.
        selection: Which teacher channel each student channel was cut from, to start the
            hidden-state projection: an `[H', H]` matrix, or an object with a
            `selection_matrix()` method, such as an ExtractionPlan.
        teacher_dtype: Keras dtype policy for a copy of the teacher, such as
            `"mixed_bfloat16"`; None uses the teacher as it is.

    Attributes:
        teacher: The teacher's Checkpoint.
        student: The student's Checkpoint.
        projections: Training-only layers, by number of the loss and name.

    Raises:
        InputError: The models do not fit each other or a loss, or an argument is invalid.

    Example:
        >>> distiller = Distiller(teacher, student, etd_tf.losses.MiniLM())
        >>> distiller.compile(optimizer=keras.optimizers.AdamW(5e-4))
        >>> distiller.fit(dataset)
    """

    def __init__(
        self,
        teacher: Checkpoint,
        student: Checkpoint,
        distillation_losses: FeatureLoss | Sequence[FeatureLoss] | None = None,
        *,
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.0,
        selection: Any = None,
        teacher_dtype: Any = None,
    ) -> None:
        # The outer model's policy decides whether compile() adds loss scaling.
        super().__init__(name="distiller", dtype=student.encoder.dtype_policy, autocast=False)
        losses = _as_losses(distillation_losses)
        self.distillation_losses = losses
        self.distillation_loss_weights = _as_weights(distillation_loss_weights, len(losses))
        self.student_loss_weight = student_loss_weight
        self._validate(teacher, student)
        self.teacher = teacher if teacher_dtype is None else teacher.astype(teacher_dtype)
        self.student = student
        self._track_student()
        matrix = _selection_matrix(selection)
        self.projections = {
            f"{index}_{name}": layer
            for index, loss in enumerate(losses)
            for name, layer in loss.projections(teacher.config, student.config, matrix).items()
        }
        self._term_names = _unique_term_names(losses)
        self._trackers = [keras.metrics.Mean(name=name) for name in self._log_names()]
        self._used: frozenset[int] | None = None
        self.built = True

    def _validate(self, teacher: Checkpoint, student: Checkpoint) -> None:
        if not 0.0 <= self.student_loss_weight < 1.0:
            raise InputError(
                f"student_loss_weight={self.student_loss_weight} is outside [0, 1). To train "
                "without a teacher, use distillation_losses=etd_tf.losses.MaskedLM()."
            )
        sizes = (teacher.config.vocab_size, student.config.vocab_size)
        if sizes[0] != sizes[1]:
            raise InputError(
                f"The teacher has {sizes[0]} tokens and the student {sizes[1]}, but both read "
                "the same token ids. Use a student with the teacher's vocabulary."
            )
        specs = [ModelSpec(c.config, c.mlm_head is not None) for c in (teacher, student)]
        if self.student_loss_weight > 0.0:
            check_mlm_head(specs[1], "student", "student_loss_weight > 0")
        for loss in self.distillation_losses:
            loss.validate(*specs)
        _check_strategy_scope(student)

    def _track_student(self) -> None:
        """Makes the student's layers sublayers; a Checkpoint alone is not a layer."""
        self._needs_teacher = any(loss.needs_teacher for loss in self.distillation_losses)
        self._needs_mlm = self.student_loss_weight > 0.0 or any(
            loss.needs_mlm for loss in self.distillation_losses
        )
        self._teacher_mlm = any(
            loss.needs_mlm and loss.needs_teacher for loss in self.distillation_losses
        )
        self.student_encoder = self.student.encoder
        self.student_mlm_head = self.student.mlm_head if self._needs_mlm else None

    def _log_names(self) -> list[str]:
        """Names of all logged numbers besides `loss`."""
        own = ["student_loss"] if self.student_loss_weight > 0.0 else []
        terms = [name for names in self._term_names for name in names.values()]
        return ["distillation_loss", *own, *terms]

    def call(self, inputs: Mapping[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """Runs the student's encoder.

        Args:
            inputs: As for `BertEncoder`.
            training: Apply dropout.

        Returns:
            `sequence_output` and, with a pooler, `pooled_output`.
        """
        return self.student_encoder(inputs, training=training)

    def distillation_loss(
        self,
        batch: Mapping[str, Tensor],
        *,
        training: bool,
        dropout_seed: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes everything that is minimised; the body of every training step.

        Args:
            batch: As for `fit`: int32 `[B, T]` inputs, with masked-LM `[B, P]` where needed.
            training: Apply the student's dropout.
            dropout_seed: Integer tensor `[2]` that alone determines the dropout masks; None
                uses the student's own generator.

        Returns:
            The float32 total, and by name: `distillation_loss`, `student_loss` where it
            has a weight, and every unweighted term.

        Raises:
            InputError: The batch lacks an input.
        """
        self._check_batch(batch)
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        teacher = None
        if self._needs_teacher:
            teacher = _features(self.teacher, inputs, batch, mlm=self._teacher_mlm)
        student = _features(
            self.student,
            inputs,
            batch,
            mlm=self._needs_mlm,
            training=training,
            dropout_seed=dropout_seed,
        )
        return self._combine(teacher, student)

    def _combine(
        self, teacher: Features | None, student: Features
    ) -> tuple[Tensor, dict[str, Tensor]]:
        total = ops.convert_to_tensor(0.0, dtype="float32")
        logs: dict[str, Tensor] = {}
        for index, (loss, weight) in enumerate(
            zip(self.distillation_losses, self.distillation_loss_weights, strict=True)
        ):
            prefix = f"{index}_"
            layers = {
                key.removeprefix(prefix): layer
                for key, layer in self.projections.items()
                if key.startswith(prefix)
            }
            terms = loss.compute_terms(teacher, student, layers)
            total = ops.add(total, ops.multiply(weight, weighted_sum(terms, loss.term_weights)))
            logs.update({self._term_names[index][name]: value for name, value in terms.items()})
        logs = {"distillation_loss": total, **logs}
        if self.student_loss_weight > 0.0:
            own = masked_lm_loss(student.mlm_logits, student.mlm_labels, student.mlm_weights)
            share = self.student_loss_weight
            total = ops.add(ops.multiply(1.0 - share, total), ops.multiply(share, own))
            logs["student_loss"] = own
        return total, logs

    def _check_batch(self, batch: Mapping[str, Tensor]) -> None:
        needed = ["token_ids", *(_MASKED_LM_INPUTS if self._needs_mlm else ())]
        if not isinstance(batch, Mapping) or any(name not in batch for name in needed):
            got = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise InputError(
                f"The Distiller needs batches that are dictionaries with {', '.join(needed)}; "
                f"received {got}."
            )

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Trainable variables that the losses depend on.

        A loss on attention leaves the last feed-forward block and the pooler without
        gradient; an optimizer must not see them, or its weight decay would shrink them.
        """
        variables = super().trainable_variables
        if self._used is None:
            self._used = self._find_used(variables)
        return [variable for variable in variables if id(variable) in self._used]

    def _find_used(self, variables: list[keras.Variable]) -> frozenset[int]:
        """Traces the loss once, without running it, to see which gradients exist."""
        names = [*_INPUTS, *(_MASKED_LM_INPUTS if self._needs_mlm else ())]
        specs = {name: tf.TensorSpec([1, 2], tf.int32) for name in names}
        used: list[int] = []

        def gradients(batch: Mapping[str, Tensor]) -> Tensor:
            with tf.GradientTape() as tape:
                loss, _ = self.distillation_loss(
                    batch, training=True, dropout_seed=tf.zeros([2], tf.int32)
                )
            found = tape.gradient(loss, [variable.value for variable in variables])
            pairs = zip(variables, found, strict=True)
            used.extend(id(variable) for variable, gradient in pairs if gradient is not None)
            return loss

        # Not under tf.init_scope(), which would switch the tape's recording off.
        tf.function(gradients, autograph=False).get_concrete_function(specs)
        return frozenset(used)

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **options: Any
    ) -> None:
        """Configures training.

        Args:
            optimizer: A Keras optimizer or its name.
            loss: Must be None: the losses are the constructor's.
            metrics: Must be None: every term is logged already.
            **options: As for `keras.Model.compile`: `jit_compile`, `steps_per_execution`,
                `run_eagerly`, ...

        Raises:
            InputError: A loss or metric is given.
        """
        if loss is not None or metrics is not None:
            raise InputError(
                "Distiller.compile takes no loss and no metrics: the encoders' outputs have no "
                "labels. Losses go to Distiller(distillation_losses=...); the student's own "
                "masked-LM loss is turned on by student_loss_weight."
            )
        super().compile(optimizer=optimizer, loss=None, **options)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Runs one optimizer step on one replica's batch; Keras calls it."""
        batch = _unpack(data)
        variables = self.trainable_variables
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            total, terms = self.distillation_loss(batch, training=True)
            # Optimizers sum gradients over replicas.
            scaled = self.optimizer.scale_loss(total / replicas)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        # Dense, because the norm of row slices counts a repeated token's rows one by one.
        self.optimizer.apply([tf.convert_to_tensor(g) for g in gradients], variables)
        return self._update_metrics(batch, total, terms)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        """Evaluates one replica's batch; Keras calls it."""
        batch = _unpack(data)
        total, terms = self.distillation_loss(batch, training=False)
        return self._update_metrics(batch, total, terms)

    def _update_metrics(
        self, batch: Mapping[str, Tensor], total: Tensor, terms: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Averages over examples, so that short batches and replicas weigh what they should."""
        size = ops.shape(batch["token_ids"])[0]
        self._loss_tracker.update_state(total, sample_weight=size)
        for tracker in self._trackers:
            tracker.update_state(terms[tracker.name], sample_weight=size)
        return self.get_metrics_result()

    def get_config(self) -> dict[str, Any]:
        """Describes the distiller without the teacher's and student's weights."""
        return {
            "teacher": self.teacher.config.to_dict(),
            "student": self.student.config.to_dict(),
            "distillation_losses": [
                keras.saving.serialize_keras_object(loss) for loss in self.distillation_losses
            ],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "student_loss_weight": self.student_loss_weight,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Distiller":
        """Refuses: a saved distiller holds no teacher."""
        raise InputError(
            "A saved Distiller holds no teacher. Build Distiller(teacher, student, ...) again "
            "and call load_weights() on the file."
        )


def _features(
    checkpoint: Checkpoint,
    inputs: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    *,
    mlm: bool,
    training: bool = False,
    dropout_seed: Tensor | None = None,
) -> Features:
    """Runs an encoder and, if asked, its masked-LM head at the masked positions."""
    trace = checkpoint.encoder.trace(inputs, training=training, dropout_seed=dropout_seed)
    if not mlm or checkpoint.mlm_head is None:
        return Features(trace)
    states = _gather(trace.sequence_output, batch["masked_lm_positions"])
    logits = checkpoint.mlm_head(states, checkpoint.encoder.embeddings.token)
    return Features(trace, logits, batch["masked_lm_ids"], batch["masked_lm_weights"])


def _gather(states: Tensor, positions: Tensor) -> Tensor:
    """Picks `[B, P, H]` out of `[B, T, H]` at `[B, P]` positions, as one flat lookup."""
    batch, length = ops.shape(states)[:2]
    positions = ops.cast(positions, "int32")
    rows = ops.expand_dims(ops.multiply(ops.arange(batch, dtype="int32"), length), 1)
    flat = ops.reshape(states, (-1, states.shape[-1]))
    return ops.take(flat, ops.add(positions, rows), axis=0)


def _as_losses(losses: FeatureLoss | Sequence[FeatureLoss] | None) -> list[FeatureLoss]:
    if losses is None:
        return [MiniLM()]
    found: list[Any] = list(losses) if isinstance(losses, list | tuple) else [losses]
    wrong = [type(loss).__name__ for loss in found if not isinstance(loss, FeatureLoss)]
    if wrong or not found:
        raise InputError(
            f"distillation_losses has {', '.join(wrong) or 'no loss'}; expected losses of "
            "etd_tf.losses, such as etd_tf.losses.MiniLM()."
        )
    return found


def _as_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    found = [float(weight) for weight in np.ravel(np.asarray(weights))]
    if len(found) != count or not all(np.isfinite(w) and w >= 0.0 for w in found):
        raise InputError(
            f"distillation_loss_weights={found} does not give each of the {count} losses a "
            "finite weight that is not negative."
        )
    return found


def _selection_matrix(selection: Any) -> np.ndarray | None:
    if selection is None:
        return None
    matrix = selection.selection_matrix() if hasattr(selection, "selection_matrix") else selection
    return np.asarray(matrix, np.float32)


def _unique_term_names(losses: Sequence[FeatureLoss]) -> list[dict[str, str]]:
    """Log name of each loss's terms; a name that comes again gets a number."""
    seen: dict[str, int] = {}
    names: list[dict[str, str]] = []
    for loss in losses:
        found = {}
        for term in loss.term_weights:
            seen[term] = seen.get(term, 0) + 1
            found[term] = term if seen[term] == 1 else f"{term}_{seen[term]}"
        names.append(found)
    return names


def _check_strategy_scope(student: Checkpoint) -> None:
    if not tf.distribute.has_strategy():
        return
    extended = tf.distribute.get_strategy().extended
    if not extended.variable_created_in_scope(student.encoder.embeddings.token.value):
        raise InputError(
            "The student's variables were created outside of this tf.distribute strategy. Load "
            "or extract the student inside the same `with strategy.scope():` block."
        )


def _unpack(data: Any) -> Mapping[str, Tensor]:
    batch, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if labels is not None or weights is not None:
        raise InputError(
            "The Distiller takes no labels and no sample weights: yield only the dictionary of "
            "inputs. Masked-LM labels go into it as masked_lm_positions, masked_lm_ids and "
            "masked_lm_weights."
        )
    return batch
