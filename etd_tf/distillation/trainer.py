"""The loop behind `bin/etd_distill`: strategies, evaluation, checkpoints, exact resume."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.distillation.distiller import Distiller
from etd_tf.distillation.loop import Loop, OnEvaluate, Run, TrainBatches
from etd_tf.distillation.step import Learner
from etd_tf.errors import DivergenceError, InputError, input_errors
from etd_tf.training.optimization import WarmupLinearDecay, make_optimizer
from etd_tf.training.options import TrainerOptions, TrainResult
from etd_tf.training.state import StateStore
from etd_tf.training.workers import Workers


class Trainer:
    """Distils a student, under any strategy, with exact resume.

    Args:
        make_distiller: Builds the distiller; called inside the strategy's scope.
        strategy: A `tf.distribute` strategy; default: one device.
        run_dir: Where `checkpoints/`, `metrics.jsonl` and `tensorboard/` go.
        identity: Further things by name that a resumed run must have equal, such as
            fingerprints of the teacher, the plan and the data.
        mixed_float16: Scale the loss against float16 underflow.

    Attributes:
        distiller: The losses and both models; holds the student.
        learner: The distiller, AdamW and the variables that it updates.
        store: The checkpoints.
        workers: The processes that train together.

    Raises:
        InputError: The batch cannot be split over the replicas and micro-batches.

    Example:
        >>> trainer = Trainer(lambda: Distiller(teacher, student, MiniLM()),
        ...                   TrainerOptions(steps=1000), run_dir=Path("out"))
        >>> result = trainer.fit(train_batches, validation)
    """

    def __init__(
        self,
        make_distiller: Callable[[], Distiller],
        options: TrainerOptions,
        *,
        run_dir: Path,
        strategy: tf.distribute.Strategy | None = None,
        identity: Mapping[str, Any] | None = None,
        mixed_float16: bool = False,
    ) -> None:
        self.options = options
        self.strategy = strategy or tf.distribute.get_strategy()
        self.options.check_split(self.strategy.num_replicas_in_sync)
        self.run_dir = Path(run_dir)
        keras.utils.set_random_seed(options.seed)
        with self.strategy.scope():
            self.distiller = make_distiller()
            trained = self.distiller.trainable_variables
            optimizer = make_optimizer(
                WarmupLinearDecay(options.learning_rate, options.steps, options.warmup_steps),
                weight_decay=options.weight_decay,
                variables=trained,
                loss_scaling=mixed_float16,
            )
        self.learner = Learner(self.distiller, optimizer, trained)
        self.workers = Workers(self.strategy)
        self.store = StateStore(
            self.run_dir / "checkpoints",
            {**options.identity(), **(identity or {})},
            keep=options.keep_checkpoints,
        )

    def start(self, on_evaluate: OnEvaluate | None = None) -> Run:
        """Loads the newest checkpoint, if there is one, for a loop that goes on from there.

        Raises:
            InputError: The checkpoints belong to another run.
        """
        return Run(
            self.learner,
            self.options,
            run_dir=self.run_dir,
            store=self.store,
            workers=self.workers,
            on_evaluate=on_evaluate,
        )

    def fit(
        self,
        train_batches: TrainBatches,
        validation: tf.data.Dataset | None = None,
        *,
        on_evaluate: OnEvaluate | None = None,
    ) -> TrainResult:
        """Trains from the newest checkpoint, or from the start, to the last step.

        Args:
            train_batches: Gives the batches from any step on, see `TrainBatches`.
            validation: Held-out batches; the same ones every time.
            on_evaluate: Called with the step before each held-out evaluation, also that of
                step 0; may read the student, and return numbers by name that are logged with
                the held-out loss.

        Returns:
            The result; the trained student is `self.distiller.student`.

        Raises:
            DivergenceError: The loss is not finite; the last checkpoint stays.
            Interrupted: A signal asked for the end; a checkpoint of this step was written.
            InputError: The checkpoints belong to another run, or a batch holds ids that a model
                lacks.
            WorkerLostError: Another worker process is gone.
        """
        with self.workers.loss_reported():
            result = fit_together([self], train_batches, validation, on_evaluate=[on_evaluate])[0]
        if isinstance(result, DivergenceError):
            raise result
        return result


def fit_together(
    trainers: Sequence[Trainer],
    train_batches: TrainBatches,
    validation: tf.data.Dataset | None = None,
    *,
    on_evaluate: Sequence[OnEvaluate | None] | None = None,
) -> list[TrainResult | DivergenceError]:
    """Trains several students of one teacher, which runs once for all of them.

    Each ends with the weights that `Trainer.fit` alone would give it, but for float32
    rounding, and can be interrupted and continued like it; runs that are found at
    different steps go on together from where they are level.

    Args:
        trainers: Trainers of equal options, strategies and teachers.
        train_batches: Gives the batches from any step on.
        validation: Held-out batches; the same ones every time.
        on_evaluate: For each trainer, what `fit` takes under this name.

    Returns:
        For each trainer its result, or the error that ended it alone.

    Raises:
        InputError: The trainers do not go together, or checkpoints belong to other runs.
        Interrupted: A signal asked for the end; checkpoints of this step were written.
    """
    _check_together(trainers)
    callbacks = on_evaluate or [None] * len(trainers)
    runs = [trainer.start(call) for trainer, call in zip(trainers, callbacks, strict=True)]
    with input_errors():
        return Loop(runs, train_batches, validation).finish()


def _check_together(trainers: Sequence[Trainer]) -> None:
    """Refuses trainers that cannot share batches and the teacher's passes."""
    first = trainers[0]
    teacher = first.distiller.teacher
    for other in trainers[1:]:
        if other.options != first.options or other.strategy is not first.strategy:
            raise InputError(
                "Trainers that run together need equal TrainerOptions and one strategy; received "
                f"{other.options} beside {first.options}."
            )
        if other.distiller.teacher_vectors != first.distiller.teacher_vectors:
            raise InputError(
                "Trainers that run together need Distillers of which all or none have "
                "teacher_vectors=True."
            )
        theirs = other.distiller.teacher
        same_dtype = _policy(theirs) == _policy(teacher)
        if theirs is not teacher and not (
            same_dtype and theirs.fingerprint() == teacher.fingerprint()
        ):
            raise InputError(
                "Trainers that run together need equal teachers of one precision; received "
                f"{theirs.source} beside {teacher.source}."
            )


def _policy(checkpoint: Checkpoint) -> str:
    return str(keras.dtype_policies.get(checkpoint.dtype).compute_dtype)
