"""The training loop: one or several trainers on the same batches, each with a run of its own."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from etd_tf.distillation.features import check_batch
from etd_tf.distillation.held_out import HeldOut
from etd_tf.distillation.run import Run
from etd_tf.distillation.step import StepOptions, TrainStep
from etd_tf.errors import DivergenceError, InputError, Interrupted
from etd_tf.progress import Tracker, track
from etd_tf.training.options import TrainerOptions, TrainResult
from etd_tf.training.signals import catch_signals
from etd_tf.training.strategy import use_xla

TrainBatches = Callable[[int, int, int], tf.data.Dataset]
"""(start_step, num_workers, worker_index) -> endless dataset of a worker's share of batches."""


class Loop:
    """Takes runs on the same batches to their last steps, together wherever they are level.

    Args:
        runs: The runs, of equal teachers, options and strategies.
        train_batches: Gives the batches from any step on.
        validation: Held-out batches, or None.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        train_batches: TrainBatches,
        validation: tf.data.Dataset | None,
    ) -> None:
        self._runs = list(runs)
        self._train_batches, self._validation = train_batches, validation
        first = runs[0].trainer
        self._options, self._strategy, self._workers = first.options, first.strategy, first.workers
        self._tokens_per_step = 0
        self._mark = time.monotonic()

    def finish(self) -> list[TrainResult | DivergenceError]:
        """Makes all missing steps.

        Returns:
            For each run its result, or why it has none.

        Raises:
            Interrupted: A signal came; checkpoints were written.
        """
        self._distribute(self._options.steps)  # for the size of a batch
        total, done = self._options.steps * len(self._runs), sum(run.step for run in self._runs)
        with (
            contextlib.ExitStack() as logs,
            catch_signals() as caught,
            track("Distilling", total, "steps", done=done) as tracker,
        ):
            for run in self._runs:
                logs.enter_context(contextlib.closing(run.log))
            self._evaluate([run for run in self._runs if run.lacks_evaluation])
            signum = 0
            while not signum and (level := self._furthest_behind()):
                signum = self._leg(level, tracker, caught)
            for run in self._runs:
                run.save()
            if signum or caught:
                step = min(run.step for run in self._runs)
                saying = f"Step {step:,} of {self._options.steps:,} is saved."
                raise Interrupted(signum or caught[0], saying)
        return [self._result(run) for run in self._runs]

    def _furthest_behind(self) -> list[Run]:
        """The unfinished runs with the fewest steps."""
        unfinished = [run for run in self._runs if not run.is_over]
        return [run for run in unfinished if run.step == min(run.step for run in unfinished)]

    def _leg(self, runs: list[Run], tracker: Tracker, caught: list[int]) -> int:
        """Trains level runs until one fails or they draw level with another; or a signal."""
        start, trainers = runs[0].step, [run.trainer for run in runs]
        ahead = [run.step for run in self._runs if not run.is_over and run.step > start]
        end = min([self._options.steps, *ahead])
        train_step = TrainStep(
            [trainer.learner for trainer in trainers],
            strategy=self._strategy,
            options=step_options(self._options),
        )
        iterator = iter(self._distribute(start))
        held_out = self._held_out(runs)
        while (step := runs[0].step) < end and not any(run.failure for run in runs):
            signum = max(self._workers.gather(caught[0] if caught else 0))
            if signum:
                return signum
            count = min(self._count(step), end - step)
            metrics = train_step.run(iterator, step, count, more=step + count < end)
            self._advance(runs, count, metrics, tracker)
            good = [run for run in runs if run.failure is None]
            if good and good[0].evaluation_is_due():
                self._evaluate(runs, held_out)
            self._charge(runs)
            for run in runs:
                run.save_if_due()
        return 0

    def _advance(
        self, runs: list[Run], count: int, metrics: list[dict[str, float]], tracker: Tracker
    ) -> None:
        for run, values in zip(runs, metrics, strict=True):
            run.advance(count, values)
        rate = tracker.rate * self._tokens_per_step
        losses = "  ".join(f"{values['loss']:.4f}" for values in metrics)
        tracker.advance(count * len(runs), f"loss {losses}  {rate:,.0f} tokens/s")

    def _held_out(self, runs: Sequence[Run]) -> HeldOut | None:
        if self._validation is None or not runs:
            return None
        return HeldOut([run.trainer.distiller for run in runs], self._validation)

    def _evaluate(self, runs: Sequence[Run], held_out: HeldOut | None = None) -> None:
        """Measures the held-out loss of runs; failed ones only take part."""
        for run in runs:
            if run.failure is None:
                run.announce_evaluation()
        held_out = held_out or self._held_out(runs)
        if held_out is not None:
            for run, means in zip(runs, held_out.evaluate(), strict=True):
                if run.failure is None:
                    run.log.write(run.step, "validation", means)
        self._charge(runs)

    def _charge(self, runs: Sequence[Run]) -> None:
        """Counts the time since the last call for these runs."""
        now = time.monotonic()
        for run in runs:
            run.seconds += (now - self._mark) / len(runs)
        self._mark = now

    def _count(self, step: int) -> int:
        """Steps of the next call: up to the next evaluation, checkpoint, log or the end."""
        options = self._options
        limits = [options.steps - step, options.steps_per_call]
        for every in (options.log_every, options.evaluate_every, options.checkpoint_every):
            if every:
                limits.append(every - step % every)
        limits += [at - step for at in options.evaluate_at if at > step]
        return min(limits)

    def _distribute(self, step: int) -> Any:
        """One dataset a worker, cut into its replicas' equal parts in batch order."""
        workers = self._workers
        replicas = self._strategy.num_replicas_in_sync // workers.count

        def dataset_fn(_: Any) -> tf.data.Dataset:
            dataset = self._train_batches(step, workers.count, workers.index)
            self._tokens_per_step = _count_tokens(dataset.element_spec) * workers.count
            if replicas == 1:
                return dataset
            return dataset.map(lambda batch: _split(batch, replicas)).unbatch()

        if self._strategy.num_replicas_in_sync == 1:
            return dataset_fn(None)
        return self._strategy.distribute_datasets_from_function(dataset_fn)

    def _result(self, run: Run) -> TrainResult | DivergenceError:
        if run.failure is not None:
            return run.failure
        tokens = run.step * self._tokens_per_step
        return TrainResult(run.step, run.seconds, tokens / max(run.seconds, 1e-9), run.held_out)


def step_options(options: TrainerOptions) -> StepOptions:
    """The settings of a step that a trainer's options ask for."""
    return StepOptions(
        seed=options.seed,
        jit_compile=use_xla(options.jit_compile),
        clip_norm=options.clip_norm,
        micro_batches=options.gradient_accumulation,
    )


def _count_tokens(spec: Any) -> int:
    """Tokens of a worker's share of a batch, padding included."""
    check_batch(spec, ["token_ids"])
    for name, tensor in spec.items():
        if not tensor.shape.is_fully_defined():
            raise InputError(
                f"Training batches must all be of one size, but their {name} have the shape "
                f"{tensor.shape}. Batch them with drop_remainder=True and pad them to one length."
            )
    return int(spec["token_ids"].shape.num_elements())


def _split(batch: Any, parts: int) -> dict[str, Any]:
    return {
        name: tf.reshape(value, (parts, value.shape[0] // parts, *value.shape[1:]))
        for name, value in batch.items()
    }
