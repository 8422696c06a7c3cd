"""The loop behind `bin/etd_distill`: strategies, evaluation, checkpoints, exact resume."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from etd_tf.distillation.distiller import Distiller
from etd_tf.distillation.held_out import HeldOut
from etd_tf.distillation.metrics_log import MetricsLog
from etd_tf.distillation.optimization import WarmupLinearDecay, make_optimizer
from etd_tf.distillation.options import TrainerOptions, TrainResult
from etd_tf.distillation.signals import catch_signals
from etd_tf.distillation.state import StateStore
from etd_tf.distillation.step import StepOptions, TrainStep
from etd_tf.distillation.strategy import use_xla
from etd_tf.distillation.workers import Workers
from etd_tf.errors import DivergenceError, Interrupted
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.progress import Tracker, track

_KEYS = ("step", "split")  # of a line of metrics.jsonl, beside its numbers
_CURE = "Lower --learning_rate, lengthen --warmup_steps or use --precision=float32."

TrainBatches = Callable[[int, int, int], tf.data.Dataset]
"""(start_step, num_workers, worker_index) -> endless dataset of a worker's share of batches."""


class Trainer:
    """Distils a student, under any strategy, with exact resume.

    Args:
        make_distiller: Builds the distiller; called inside the strategy's scope.
        options: Settings.
        strategy: A `tf.distribute` strategy; default: one device.
        run_dir: Where `checkpoints/`, `metrics.jsonl` and `tensorboard/` go.
        identity: Further things by name that a resumed run must have equal, such as
            fingerprints of the teacher, the plan and the data.
        mixed_float16: Scale the loss against float16 underflow.

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
            self._variables = self.distiller.trainable_variables
            self.optimizer = make_optimizer(
                WarmupLinearDecay(options.learning_rate, options.steps, options.warmup_steps),
                weight_decay=options.weight_decay,
                variables=self._variables,
                loss_scaling=mixed_float16,
            )
        self._step = TrainStep(
            self.distiller,
            self.optimizer,
            self._variables,
            strategy=self.strategy,
            options=StepOptions(
                seed=options.seed,
                jit_compile=use_xla(options.jit_compile),
                clip_norm=options.clip_norm,
                micro_batches=options.gradient_accumulation,
            ),
        )
        self.workers = Workers(self.strategy)
        self._store = StateStore(
            self.run_dir / "checkpoints",
            {**options.identity(), **(identity or {})},
            keep=options.keep_checkpoints,
        )

    def variables(self) -> dict[str, keras.Variable]:
        """Everything a checkpoint holds, under names that are the same in every process."""
        student = self.distiller.student
        named = {
            f"student/{name}": variable
            for name, variable in parameter_variables(student.encoder, student.mlm_head).items()
        }
        for name, layer in self.distiller.projections.items():
            for index, variable in enumerate(layer.weights):
                named[f"projection/{name}/{index}"] = variable
        for index, variable in enumerate(self.optimizer.variables):
            named[f"optimizer/{index}"] = variable
        return named

    def fit(
        self,
        train_batches: TrainBatches,
        validation: tf.data.Dataset | None = None,
        *,
        on_evaluate: Callable[[int], None] | None = None,
    ) -> TrainResult:
        """Trains from the newest checkpoint, or from the start, to the last step.

        Args:
            train_batches: Gives the batches from any step on, see `TrainBatches`.
            validation: Held-out batches; the same ones every time.
            on_evaluate: Called with the step before each held-out evaluation, also that of
                step 0; may read the student.

        Returns:
            The result; the trained student is `self.distiller.student`.

        Raises:
            DivergenceError: The loss is not finite; the last checkpoint stays.
            Interrupted: SIGTERM or SIGINT came; a checkpoint of this step was written.
            InputError: The checkpoints belong to another run.
            WorkerLostError: Another worker process is gone.
        """
        with self.workers.loss_reported():
            return self._fit(train_batches, validation, on_evaluate)

    def _fit(
        self,
        train_batches: TrainBatches,
        validation: tf.data.Dataset | None,
        on_evaluate: Callable[[int], None] | None,
    ) -> TrainResult:
        step, seconds = self._store.restore(self.variables())
        self.workers.check_same_step(step)
        started = time.monotonic() - seconds
        log = self._open_log(step)
        evaluate = self._evaluator(validation, log, on_evaluate)
        iterator = iter(self._distribute(train_batches, step))
        saved, signum = step, 0
        with (
            contextlib.closing(log),
            catch_signals() as caught,
            track("Distilling", self.options.steps, "steps", done=step) as tracker,
        ):
            finished_before = step == self.options.steps
            if step == 0 or (finished_before and "validation" not in log.latest):
                evaluate(step)
            while step < self.options.steps:
                signum = max(self.workers.gather(caught[0] if caught else 0))
                if signum:
                    break
                count = self._count(step)
                metrics = self._train(iterator, step, count)
                step += count
                self._report(step, metrics, log, tracker, count)
                if self._due(step, self.options.evaluate_every, self.options.evaluate_at):
                    evaluate(step)
                if self._due(step, self.options.checkpoint_every):
                    saved = self._save(step, time.monotonic() - started)
            if step > saved:
                self._save(step, time.monotonic() - started)
            if signum or caught:
                saying = f"Step {step:,} of {self.options.steps:,} is saved."
                raise Interrupted(signum or caught[0], saying)
        seconds = time.monotonic() - started
        held_out = {k: v for k, v in log.latest.get("validation", {}).items() if k not in _KEYS}
        tokens = step * self._tokens_per_step
        return TrainResult(step, seconds, tokens / max(seconds, 1e-9), held_out)

    def _open_log(self, step: int) -> MetricsLog:
        if not self.workers.is_chief:
            return MetricsLog(None)
        return MetricsLog(
            self.run_dir / "metrics.jsonl", self.run_dir / "tensorboard", resume_step=step
        )

    def _evaluator(
        self,
        validation: tf.data.Dataset | None,
        log: MetricsLog,
        on_evaluate: Callable[[int], None] | None,
    ) -> Callable[[int], None]:
        held_out = None if validation is None else HeldOut(self.distiller, validation)

        def evaluate(step: int) -> None:
            if on_evaluate is not None:
                on_evaluate(step)
            if held_out is not None:
                log.write(step, "validation", held_out.evaluate())

        return evaluate

    def _count(self, step: int) -> int:
        """Steps of the next call: up to the next evaluation, checkpoint, log or the end."""
        options = self.options
        limits = [options.steps - step, options.steps_per_call]
        for every in (options.log_every, options.evaluate_every, options.checkpoint_every):
            if every:
                limits.append(every - step % every)
        limits += [at - step for at in options.evaluate_at if at > step]
        return min(limits)

    def _due(self, step: int, every: int, at: tuple[int, ...] = ()) -> bool:
        return step == self.options.steps or bool(every and step % every == 0) or step in at

    def _distribute(self, train_batches: TrainBatches, step: int) -> Any:
        """One dataset a worker, cut into its replicas' equal parts in batch order."""
        workers = self.workers
        replicas = self.strategy.num_replicas_in_sync // workers.count

        def dataset_fn(_: Any) -> tf.data.Dataset:
            dataset = train_batches(step, workers.count, workers.index)
            spec = next(iter(dataset.element_spec.values()))
            self._tokens_per_step = int(spec.shape[0] * spec.shape[1]) * workers.count
            if replicas == 1:
                return dataset
            return dataset.map(lambda batch: _split(batch, replicas)).unbatch()

        if self.strategy.num_replicas_in_sync == 1:
            return dataset_fn(None)
        return self.strategy.distribute_datasets_from_function(dataset_fn)

    def _train(self, iterator: Any, step: int, count: int) -> dict[str, float]:
        metrics = self._step.run(
            iterator, tf.constant(step, tf.int32), tf.constant(count, tf.int32)
        )
        values = {name: float(value) for name, value in metrics.items()}
        if not np.isfinite(values["loss"]):
            # Weights that were saved at this very step are the ones that failed.
            if self.workers.is_chief:
                self._store.discard(step)
            good = [saved for saved in self._store.steps() if saved < step]
            kept = f"The last good checkpoint is step {good[-1]}" if good else "No good checkpoint"
            raise DivergenceError(
                f"The loss became {values['loss']} between steps {step} and {step + count}: "
                f"{_terms(values)}. {kept}. {_CURE}"
            )
        return values

    def _report(
        self, step: int, metrics: dict[str, float], log: MetricsLog, tracker: Tracker, count: int
    ) -> None:
        tracker.advance(
            count,
            f"loss {metrics['loss']:.4f}  {tracker.rate * self._tokens_per_step:,.0f} tokens/s",
        )
        if step % self.options.log_every == 0 or step == self.options.steps:
            rate = float(
                WarmupLinearDecay(
                    self.options.learning_rate, self.options.steps, self.options.warmup_steps
                )(step - 1)
            )
            log.write(step, "train", {**metrics, "learning_rate": rate})

    def _save(self, step: int, seconds: float) -> int:
        """Writes a checkpoint; only of finite weights, so that no good one is lost to them."""
        finite = [tf.reduce_all(tf.math.is_finite(v.value)) for v in self._variables]
        if not all(map(bool, finite)):
            raise DivergenceError(
                f"Weights are not finite after step {step}, so they are not saved. {_CURE}"
            )
        if self.workers.is_chief:
            self._store.save(step, self.variables(), seconds=seconds)
        return step


def _split(batch: Mapping[str, Any], parts: int) -> dict[str, Any]:
    return {
        name: tf.reshape(value, (parts, value.shape[0] // parts, *value.shape[1:]))
        for name, value in batch.items()
    }


def _terms(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in values.items())
