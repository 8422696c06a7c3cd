"""One trainer's part in a training loop: where it is, what it logs, what it keeps."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from etd_tf.errors import DivergenceError
from etd_tf.training.metrics_log import MetricsLog
from etd_tf.training.optimization import WarmupLinearDecay

if TYPE_CHECKING:
    from etd_tf.distillation.trainer import Trainer

_KEYS = ("step", "split")  # of a line of metrics.jsonl, beside its numbers
_CURE = "Lower --learning_rate, lengthen --warmup_steps or use --precision=float32."


class Run:
    """One trainer's part in a loop: its weights, log, held-out losses and checkpoints.

    Args:
        trainer: The trainer; its newest checkpoint is loaded.
        on_evaluate: Called with the step before each held-out evaluation.

    Attributes:
        step: Finished steps.
        seconds: Time spent on them, over all sittings; shared work counts in equal parts.
        failure: Why it ended early, if it did.
    """

    def __init__(self, trainer: "Trainer", on_evaluate: Callable[[int], None] | None) -> None:
        self.trainer, self.options = trainer, trainer.options
        self._on_evaluate = on_evaluate
        trainer.workers.check_same_run(trainer.store.identity)
        self.step, self.seconds = trainer.store.restore(trainer.variables())
        self._saved = self.step
        self.failure: DivergenceError | None = None
        trainer.workers.check_same_step(self.step)
        self._is_chief = trainer.workers.is_chief
        path = trainer.run_dir
        self.log = (
            MetricsLog(path / "metrics.jsonl", path / "tensorboard", resume_step=self.step)
            if self._is_chief
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
        if self.step == self.options.steps and not self.trainer.updates:
            self.failure = DivergenceError(
                f"None of the {self.step} steps changed the weights: their gradients overflowed "
                "float16. Train longer, or use --precision=mixed_bfloat16 or float32."
            )

    def _log(self, metrics: dict[str, float]) -> None:
        options, updates = self.options, self.trainer.updates
        schedule = WarmupLinearDecay(options.learning_rate, options.steps, options.warmup_steps)
        values = {**metrics, "learning_rate": float(schedule(max(updates - 1, 0)))}
        if self.trainer.mixed_float16:
            values["skipped_steps"] = self.step - updates
        self.log.write(self.step, "train", values)

    def evaluation_is_due(self) -> bool:
        """Whether the held-out loss is to be measured after this step."""
        return self._due(self.options.evaluate_every) or self.step in self.options.evaluate_at

    def announce_evaluation(self) -> None:
        """Tells whoever waits for it that the student is about to be evaluated."""
        if self._on_evaluate is not None:
            self._on_evaluate(self.step)

    def save_if_due(self) -> None:
        """Writes a checkpoint where the options ask for one."""
        if self._due(self.options.checkpoint_every):
            self.save()

    def save(self) -> None:
        """Writes a checkpoint; only of finite weights, so that no good one is lost to them."""
        if self.step <= self._saved or self.failure is not None:
            return
        trainer = self.trainer
        finite = [tf.reduce_all(tf.math.is_finite(v.value)) for v in trainer.trained]
        if not all(map(bool, finite)):
            self.failure = DivergenceError(
                f"Weights are not finite after step {self.step}, so they are not saved. {_CURE}"
            )
            return
        if self._is_chief:
            trainer.store.save(self.step, trainer.variables(), seconds=self.seconds)
        self._saved = self.step

    def _due(self, every: int) -> bool:
        return self.step == self.options.steps or bool(every and self.step % every == 0)

    def _fail(self, count: int, metrics: dict[str, float]) -> None:
        store, step = self.trainer.store, self.step - count
        # Of one step, the weights it began with are the ones that failed.
        last = step - 1 if count == 1 else step
        if self._is_chief and last < step:
            store.discard(step)
        good = [saved for saved in store.steps() if saved <= last]
        kept = f"The last good checkpoint is step {good[-1]}" if good else "No good checkpoint"
        terms = ", ".join(f"{name}={value:.4g}" for name, value in metrics.items())
        self.failure = DivergenceError(
            f"The loss became {metrics['loss']} between steps {step} and {self.step}: {terms}. "
            f"{kept}. {_CURE}"
        )
