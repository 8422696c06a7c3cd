"""The training loop: one or several runs on the same batches, each with a student of its own."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from etd_tf.distillation.features import check_batch
from etd_tf.distillation.held_out import HeldOut
from etd_tf.distillation.step import TOKENS, Learner, TrainStep
from etd_tf.errors import DivergenceError, InputError, Interrupted
from etd_tf.modeling.checked_data import checked_dataset
from etd_tf.progress import Tracker, track
from etd_tf.training.metrics_log import MetricsLog, read_metrics
from etd_tf.training.optimization import WarmupLinearDecay
from etd_tf.training.options import TrainerOptions, TrainResult
from etd_tf.training.signals import catch_signals
from etd_tf.training.state import StateStore
from etd_tf.training.workers import Workers

TrainBatches = Callable[[int, int, int], tf.data.Dataset]
"""(start_step, num_workers, worker_index) -> endless dataset of a worker's share of batches."""

OnEvaluate = Callable[[int], Mapping[str, float] | None]
"""Step -> further numbers of the student, or None."""

_KEYS = ("step", "split")  # of a line of metrics.jsonl, beside its numbers
_FEWEST_LOSSES = 6  # by which a fall is judged
_CURE = "Lower learning_rate, lengthen warmup_steps or use precision=float32."


class Run:
    """One student's part in a loop: its weights, log, held-out losses and checkpoints.

    Args:
        learner: The student; the newest checkpoint is loaded into it.
        run_dir: Where `metrics.jsonl` and `tensorboard/` go.
        store: The checkpoints.
        workers: The processes that train together.
        on_evaluate: Called with the step before each held-out evaluation; numbers that it
            returns by name are logged with the held-out loss.

    Attributes:
        step: Finished steps.
        seconds: Time spent on them, over all sittings; shared work counts in equal parts.
        failure: Why it ended early, if it did.
    """

    def __init__(
        self,
        learner: Learner,
        options: TrainerOptions,
        *,
        run_dir: Path,
        store: StateStore,
        workers: Workers,
        on_evaluate: OnEvaluate | None = None,
    ) -> None:
        self.learner, self.options, self.workers = learner, options, workers
        self._metrics = run_dir / "metrics.jsonl"
        self._store, self._on_evaluate = store, on_evaluate
        workers.check_same_run(store.identity)
        self.step, self.seconds = store.restore(learner.state())
        self._saved = self.step
        self.failure: DivergenceError | None = None
        workers.check_same_step(self.step)
        self.log = (
            MetricsLog(self._metrics, run_dir / "tensorboard", resume_step=self.step)
            if workers.is_chief
            else MetricsLog(None)
        )

    @property
    def is_over(self) -> bool:
        """Whether it has no further step to make."""
        return self.failure is not None or self.step >= self.options.steps

    @property
    def lacks_evaluation(self) -> bool:
        """Whether it must be evaluated where it is, before any step."""
        finished = self.step == self.options.steps
        return self.step == 0 or (finished and "validation" not in self.log.latest)

    @property
    def held_out(self) -> dict[str, float]:
        """The latest held-out means."""
        latest = self.log.latest.get("validation", {})
        return {name: value for name, value in latest.items() if name not in _KEYS}

    def advance(self, count: int, metrics: dict[str, float]) -> None:
        """Records steps that were made, and saves and logs what is due."""
        self.step += count
        if not np.isfinite(metrics["loss"]):
            self._fail(count, metrics)
            return
        if self._due(self.options.log_every):
            self._log(metrics)
            if self.workers.is_chief and self.step - count < self._judged_step <= self.step:
                self._judge()
        if self.step == self.options.steps and not self.learner.updates:
            self.failure = DivergenceError(
                f"None of the {self.step} steps changed the weights: their gradients overflowed "
                "float16. Train longer, or use precision=mixed_bfloat16 or float32."
            )

    def told_terms(self, metrics: dict[str, float]) -> str:
        """The terms of several losses for the terminal; empty for a single loss."""
        distiller = self.learner.distiller
        if len(distiller.distillation_losses) == 1:
            return ""
        return f" ({', '.join(f'{name} {metrics[name]:.4f}' for name in distiller.term_names)})"

    def _log(self, metrics: dict[str, float]) -> None:
        options, updates = self.options, self.learner.updates
        schedule = WarmupLinearDecay(options.learning_rate, options.steps, options.warmup_steps)
        values = {**metrics, "learning_rate": float(schedule(max(updates - 1, 0)))}
        if self.learner.scales_loss:
            values["skipped_steps"] = self.step - updates
        self.log.write(self.step, "train", values)

    @property
    def _judged_step(self) -> int:
        """The end of the first tenth behind the warm-up, at a step that is logged."""
        every, steps = self.options.log_every, self.options.steps
        return -(-(self.options.warmup_steps + steps // 10) // every) * every

    def _judge(self) -> None:
        """Warns of a loss that does not fall, while little time is lost."""
        lines = [line for line in read_metrics(self._metrics) if line.get("split") == "train"]
        losses = [line["loss"] for line in lines if line.get("loss") is not None]
        if len(losses) < _FEWEST_LOSSES:
            return
        few = len(losses) // 3
        first, last = np.median(losses[:few]), np.median(losses[-few:])
        if last < first:
            return
        logging.warning(
            "The loss does not fall: it was %.4g at the beginning and is %.4g at step %d of %d. "
            "Try another learning_rate than %g, a longer warm-up or another start of the student, "
            "and check that the text suits the teacher.",
            *(first, last, self.step, self.options.steps, self.options.learning_rate),
        )

    def evaluation_is_due(self) -> bool:
        """Whether the held-out loss is to be measured after this step."""
        return self._due(self.options.evaluate_every) or self.step in self.options.evaluate_at

    def announce_evaluation(self) -> Mapping[str, float]:
        """Tells whoever waits for it that the student is about to be evaluated.

        Returns:
            Numbers to log with the held-out loss.
        """
        found = self._on_evaluate(self.step) if self._on_evaluate is not None else None
        return found or {}

    def save_if_due(self) -> None:
        """Writes a checkpoint where the options ask for one."""
        if self._due(self.options.checkpoint_every):
            self.save()

    def save(self) -> None:
        """Writes a checkpoint; only of finite weights, so that no good one is lost to them."""
        if self.step <= self._saved or self.failure is not None:
            return
        finite = [tf.reduce_all(tf.math.is_finite(v.value)) for v in self.learner.variables]
        if not all(map(bool, finite)):
            self.failure = DivergenceError(
                f"Weights are not finite after step {self.step}, so they are not saved. {_CURE}"
            )
            return
        if self.workers.is_chief:
            self._store.save(self.step, self.learner.state(), seconds=self.seconds)
        self._saved = self.step

    def _due(self, every: int) -> bool:
        return self.step == self.options.steps or bool(every and self.step % every == 0)

    def _fail(self, count: int, metrics: dict[str, float]) -> None:
        store, step = self._store, self.step - count
        # Of one step, the weights it began with are the ones that failed.
        last = step - 1 if count == 1 else step
        if self.workers.is_chief and last < step:
            store.discard(step)
        good = [saved for saved in store.steps() if saved <= last]
        kept = f"The last good checkpoint is step {good[-1]}" if good else "No good checkpoint"
        terms = ", ".join(f"{name}={value:.4g}" for name, value in metrics.items())
        self.failure = DivergenceError(
            f"The loss became {metrics['loss']} between steps {step} and {self.step}: {terms}. "
            f"{kept}. {_CURE}"
        )


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
        self._options, self._workers = runs[0].options, runs[0].workers
        self._strategy = self._workers.strategy
        self._tokens_per_step = 0  # where all batches are of one length
        self._tokens, self._steps = 0.0, 0  # of this sitting
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
        start = runs[0].step
        ahead = [run.step for run in self._runs if not run.is_over and run.step > start]
        end = min([self._options.steps, *ahead])
        train_step = TrainStep(
            [run.learner for run in runs],
            strategy=self._strategy,
            options=self._options,
            count_tokens=not self._tokens_per_step,
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
        replicas = self._strategy.num_replicas_in_sync
        counts = [values.pop(TOKENS, self._tokens_per_step / replicas) for values in metrics]
        self._tokens += counts[0] * replicas * count
        self._steps += count
        for run, values in zip(runs, metrics, strict=True):
            run.advance(count, values)
        rate = tracker.rate * self._tokens / self._steps
        losses = "  ".join(f"{values['loss']:.4f}" for values in metrics)
        if len(runs) == 1:
            losses += runs[0].told_terms(metrics[0])
        tracker.advance(count * len(runs), f"loss {losses}  {rate:,.0f} tokens/s")

    def _held_out(self, runs: Sequence[Run]) -> HeldOut | None:
        if self._validation is None or not runs:
            return None
        return HeldOut([run.learner.distiller for run in runs], self._validation)

    def _evaluate(self, runs: Sequence[Run], held_out: HeldOut | None = None) -> None:
        """Measures the held-out loss of runs; failed ones only take part."""
        further = [run.announce_evaluation() if run.failure is None else {} for run in runs]
        held_out = held_out or self._held_out(runs)
        if held_out is not None:
            for run, means, more in zip(runs, held_out.evaluate(), further, strict=True):
                if run.failure is None:
                    run.log.write(run.step, "validation", {**means, **more})
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
            dataset = checked_dataset(dataset, self._runs[0].learner.distiller.input_config())
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
        mean = self._tokens / self._steps if self._steps else self._tokens_per_step
        tokens = run.step * mean
        return TrainResult(run.step, run.seconds, tokens / max(run.seconds, 1e-9), run.held_out)


def _count_tokens(spec: Any) -> int:
    """Tokens of a worker's share of a batch, padding included; 0 where lengths vary."""
    check_batch(spec, ["token_ids"])
    for name, tensor in spec.items():
        if tensor.shape.rank is None or tensor.shape[0] is None:
            raise InputError(
                f"Training batches must all be of one size, but their {name} have the shape "
                f"{tensor.shape}. Batch them with drop_remainder=True."
            )
    return int(spec["token_ids"].shape.num_elements() or 0)


def _split(batch: Any, parts: int) -> dict[str, Any]:
    return {
        name: tf.stack(tf.split(value, parts))  # keeps what is known of shapes
        for name, value in batch.items()
    }
