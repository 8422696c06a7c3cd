"""The Distiller: a Keras model that trains a student encoder on its teacher's features."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.distillation.arguments import (
    as_losses,
    as_weights,
    check_are_checkpoints,
    check_models,
    check_vectors_suffice,
)
from etd_tf.distillation.features import (
    check_batch,
    compute_features,
    count_examples,
    input_names,
)
from etd_tf.distillation.vectors import SentenceVectors, as_selection_matrix
from etd_tf.errors import InputError
from etd_tf.lazy import float32_keras
from etd_tf.losses.base import Features, Loss
from etd_tf.losses.mlm import masked_lm_loss
from etd_tf.modeling.checked_data import CheckedModel
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.pooling import Pooling
from etd_tf.text.records import TEACHER_VECTOR
from etd_tf.training.dependence import find_dependent
from etd_tf.types import Tensor


@keras.saving.register_keras_serializable(package="etd_tf")
class Distiller(CheckedModel):
    """Trains a student encoder to behave like a larger one inside.

    Ordinary Keras: `compile(optimizer=...)`, then `fit` on a dataset of dictionaries of
    int32 `[B, T]` `token_ids`, `segment_ids` and `padding_mask`. Losses on masked-LM logits
    also need `masked_lm_positions`, `masked_lm_ids` and `masked_lm_weights`, `[B, P]`.
    Argument, attribute and log names are those of `keras.distillation.Distiller`, which
    cannot compare encoders of unequal width; each term of each loss is logged as well.

    Losses that read nothing of the teacher but its sentence vectors can be given these: with
    `teacher_vectors=True` batches hold them as float `[B, D]` `teacher_vector`, of any length
    (those of `teacher.embed` will do), and the teacher never runs.

    A step runs the teacher once (inference mode, no gradient) and the student once. The
    teacher is neither among the distiller's variables nor in what `save` and
    `save_weights` write; projections are, but not in `student`. For a loss with `keep_map`,
    `student.replace(pooling=distiller.student_pooling)` is the student with the map. Gradient
    clipping of an optimizer acts on each replica alone: with several, use the Trainer.

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
        teacher_vectors: Whether batches bring the teacher's sentence vectors.

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
        distillation_losses: Loss | Sequence[Loss] | None = None,
        *,
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.0,
        selection: Any = None,
        teacher_dtype: Any = None,
        teacher_vectors: bool = False,
    ) -> None:
        check_are_checkpoints(teacher=teacher, student=student)
        # The outer model's policy decides whether compile() adds loss scaling.
        super().__init__(name="distiller", dtype=student.encoder.dtype_policy, autocast=False)
        losses = self.distillation_losses = as_losses(distillation_losses)
        self.distillation_loss_weights = as_weights(distillation_loss_weights, len(losses))
        self.student_loss_weight = student_loss_weight
        check_models(teacher, student, losses, student_loss_weight)
        self.teacher_vectors = teacher_vectors
        check_vectors_suffice(losses, teacher_vectors)
        self.teacher = _as_teacher(teacher, teacher_dtype)
        self.student = student
        self._track_student()
        if self.runs_teacher:
            self.teacher.build()  # under the strategy, not in a replica
        matrix = as_selection_matrix(selection)
        self._vectors = SentenceVectors(teacher, student, losses, matrix)
        own = {
            f"{index}_{name}": layer
            for index, loss in enumerate(losses)
            for name, layer in loss.projections(teacher.config, student.config, matrix).items()
        }
        self.projections = own | self._vectors.projections  # at once: Keras tracks layers then
        self._term_names = _unique_term_names(losses)
        self._trackers = [
            keras.metrics.Mean(name=name, dtype="float32") for name in self._log_names()
        ]
        self._used: frozenset[int] | None = None
        self.built = True

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

    @property
    def reads(self) -> tuple[bool, bool, bool]:
        """Whether the losses read the teacher, its masked-LM logits and its sentence vectors."""
        return self._needs_teacher, self._teacher_mlm, self._vectors.needed

    @property
    def runs_teacher(self) -> bool:
        """Whether a step runs the teacher."""
        return self._needs_teacher and not self.teacher_vectors

    @property
    def student_pooling(self) -> Pooling | None:
        """How the trained student makes a sentence vector; with the map, where it is to be kept."""
        return self._vectors.student_pooling()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of everything that the losses may read of a batch."""
        given = (TEACHER_VECTOR,) if self.teacher_vectors else ()
        return input_names(mlm=self._needs_mlm) + given

    def input_specs(self) -> dict[str, tf.TensorSpec]:
        """Shapes and types of a smallest batch, by which a step can be traced beforehand."""
        specs = {name: tf.TensorSpec([1, 2], tf.int32) for name in self.input_names}
        if self.teacher_vectors:
            specs[TEACHER_VECTOR] = tf.TensorSpec([1, self._vectors.teacher_size], tf.float32)
        return specs

    def input_config(self) -> BertConfig:
        """The student's architecture with the smaller of both models' tables."""
        teacher, student = self.teacher.config, self.student.config
        return student.replace(
            type_vocab_size=min(teacher.type_vocab_size, student.type_vocab_size),
            max_positions=min(teacher.max_positions, student.max_positions),
        )

    @property
    def term_names(self) -> list[str]:
        """Names of all terms of all losses, as they are logged."""
        return [name for names in self._term_names for name in names.values()]

    def _log_names(self) -> list[str]:
        """Names of all logged numbers besides `loss`."""
        own = ["student_loss"] if self.student_loss_weight > 0.0 else []
        return ["distillation_loss", *own, *self.term_names]

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
        teacher: Features | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes everything that is minimised; the body of every training step.

        Args:
            batch: As for `fit`: int32 `[B, T]` inputs, with masked-LM `[B, P]` where needed.
            training: Apply the student's dropout.
            dropout_seed: Integer tensor `[2]` that alone determines the dropout masks; None
                uses the student's own generator.
            teacher: What `teacher_features` gave for this batch; None computes it here.

        Returns:
            The float32 total, and by name: `distillation_loss`, `student_loss` where it
            has a weight, and every unweighted term.

        Raises:
            InputError: The batch lacks an input.
        """
        if teacher is None:
            teacher = self.teacher_features(batch)
        student = compute_features(
            self.student,
            batch,
            mlm=self._needs_mlm,
            training=training,
            dropout_seed=dropout_seed,
        )
        if self._vectors.needed:
            student = self._vectors.of_student(student)
        return self._combine(teacher, student)

    def teacher_features(
        self, batch: Mapping[str, Tensor], reads: tuple[bool, bool, bool] | None = None
    ) -> Features | None:
        """Runs the teacher on a batch.

        Args:
            batch: As for `distillation_loss`.
            reads: What is read of it, see `reads`; None for what its own losses read.

        Returns:
            All that losses may read; None where no loss reads the teacher.

        Raises:
            InputError: The batch lacks an input.
        """
        needs_teacher, mlm, vectors = reads or self.reads
        if not needs_teacher:
            return None
        if self.teacher_vectors:
            check_batch(batch, [TEACHER_VECTOR])
            return Features(None, vectors=ops.cast(batch[TEACHER_VECTOR], "float32"))
        features = compute_features(self.teacher, batch, mlm=mlm)
        return self._vectors.of_teacher(features) if vectors else features

    def _combine(self, teacher: Any, student: Features) -> tuple[Tensor, dict[str, Tensor]]:
        total = ops.convert_to_tensor(0.0, dtype="float32")
        logs: dict[str, Tensor] = {}
        weights = self.distillation_loss_weights
        for index, (loss, weight) in enumerate(zip(self.distillation_losses, weights, strict=True)):
            own = {k: v for k, v in self.projections.items() if k.startswith(f"{index}_")}
            layers = {key.removeprefix(f"{index}_"): layer for key, layer in own.items()}
            if loss.needs_map:
                layers |= self._vectors.projections
            terms = loss.compute_terms(teacher, student, layers)
            total = ops.add(total, ops.multiply(weight, loss.weighted_sum(terms)))
            logs.update({self._term_names[index][name]: value for name, value in terms.items()})
        logs = {"distillation_loss": total, **logs}
        if self.student_loss_weight > 0.0:
            mlm = masked_lm_loss(student.mlm_logits, student.mlm_labels, student.mlm_weights)
            share = self.student_loss_weight
            total = ops.add(ops.multiply(1.0 - share, total), ops.multiply(share, mlm))
            logs["student_loss"] = mlm
        return total, logs

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
        specs = self.input_specs()

        def loss(batch: Mapping[str, Tensor]) -> Tensor:
            seed = tf.zeros([2], tf.int32)
            return self.distillation_loss(batch, training=True, dropout_seed=seed)[0]

        return find_dependent(loss, variables, specs, self.distribute_strategy)

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
        self._used = None  # layers may have been frozen or freed since
        with float32_keras():  # that of the mean loss
            super().compile(optimizer=optimizer, loss=None, **options)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Runs one optimizer step on one replica's batch; Keras calls it."""
        batch = _unpack_batch(data)
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
        batch = _unpack_batch(data)
        return self._update_metrics(batch, *self.distillation_loss(batch, training=False))

    def _update_metrics(
        self, batch: Mapping[str, Tensor], total: Tensor, terms: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Averages over examples, so that short batches and replicas weigh what they should."""
        examples = count_examples(self.student, batch)
        # Losses are means over all rows, to which a row of nothing but padding adds 0.
        scale = ops.cast(ops.shape(batch["token_ids"])[0], "float32") / ops.maximum(examples, 1.0)
        for tracker in (self._loss_tracker, *self._trackers):
            value = total if tracker is self._loss_tracker else terms[tracker.name]
            tracker.update_state(value * scale, sample_weight=examples)
        return self.get_metrics_result()

    def get_config(self) -> dict[str, Any]:
        """Describes the distiller without the teacher's and student's weights."""
        return {
            "teacher": self.teacher.config.to_dict(),
            "student": self.student.config.to_dict(),
            "distillation_losses": [
                {"name": loss.name, **dataclasses.asdict(loss)} for loss in self.distillation_losses
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


def _as_teacher(teacher: Checkpoint, dtype: Any) -> Checkpoint:
    """The teacher under a dtype policy (None: its own): itself if it can serve, else a copy."""
    if dtype is None:
        return teacher
    # Under a strategy it must be made again inside of the scope.
    fits = keras.dtype_policies.get(dtype) == keras.dtype_policies.get(teacher.dtype)
    return teacher if fits and not tf.distribute.has_strategy() else teacher.astype(dtype)


def _unique_term_names(losses: Sequence[Loss]) -> list[dict[str, str]]:
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


def _unpack_batch(data: Any) -> Mapping[str, Tensor]:
    """The dictionary of inputs in what a Keras step receives; refuses labels and weights."""
    batch, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if labels is not None or weights is not None:
        raise InputError(
            "The Distiller takes no labels and no sample weights: yield only the dictionary of "
            "inputs. Masked-LM labels go into it as masked_lm_positions, masked_lm_ids and "
            "masked_lm_weights."
        )
    return batch
