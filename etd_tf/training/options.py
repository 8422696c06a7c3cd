"""Settings and result of a training run."""

import dataclasses
import math
from typing import Any

from etd_tf.errors import InputError

FREE_OPTIONS = frozenset(
    {
        "log_every",
        "evaluate_every",
        "evaluate_at",
        "checkpoint_every",
        "keep_checkpoints",
        "steps_per_call",
    }
)
"""Options that do not change the weights, so that they may change when a run goes on."""

_LARGEST_SEED = 2**31 - 1 - 2**24  # int32, and room for what replicas add to it
# Whole numbers and the least that they can be.
_WHOLE = {
    "steps": 1,
    "batch_size": 1,
    "warmup_steps": 0,
    "gradient_accumulation": 1,
    "seed": 0,
    "steps_per_call": 1,
    "log_every": 1,
    "evaluate_every": 0,
    "checkpoint_every": 0,
    "keep_checkpoints": 1,
}


@dataclasses.dataclass(frozen=True)
class TrainerOptions:
    """Settings of a training run.

    Attributes:
        steps: Optimizer steps.
        batch_size: Examples a step, over all replicas.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        weight_decay: AdamW's decoupled decay.
        clip_norm: Largest global gradient norm; 0 turns clipping off.
        gradient_accumulation: Parts in which each replica computes its batch.
        seed: Seed of dropout and of the projections' initialisation.
        jit_compile: `"auto"`, `"on"` or `"off"`.
        steps_per_call: Steps in one call of the compiled loop.
        log_every: Steps between training lines in `metrics.jsonl`.
        evaluate_every: Steps between held-out evaluations; 0 means only at the end.
        evaluate_at: Further steps after which to evaluate.
        checkpoint_every: Steps between checkpoints; 0 means only on signals and at the end.
        keep_checkpoints: Checkpoints that stay on disk.

    Raises:
        InputError: A number is out of range or two do not fit together.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 5e-4
    warmup_steps: int = 0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    gradient_accumulation: int = 1
    seed: int = 0
    jit_compile: str = "auto"
    steps_per_call: int = 1
    log_every: int = 10
    evaluate_every: int = 0
    evaluate_at: tuple[int, ...] = ()
    checkpoint_every: int = 0
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: expected a whole number >= {least}.")
        if any(
            isinstance(at, bool) or not isinstance(at, int) or at < 1 for at in self.evaluate_at
        ):
            raise InputError(f"evaluate_at={self.evaluate_at}: expected whole numbers >= 1.")
        if self.seed > _LARGEST_SEED:
            raise InputError(f"seed={self.seed}: expected a number up to {_LARGEST_SEED}.")
        for name in ("learning_rate", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise InputError(f"{name}={value}: expected a finite number >= 0.")
        if self.learning_rate == 0:
            raise InputError("learning_rate=0 trains nothing; distillation usually takes 5e-4.")
        if self.warmup_steps > self.steps:
            raise InputError(
                f"warmup_steps={self.warmup_steps} is more than steps={self.steps}; shorten the "
                "warm-up or train longer."
            )
        self.check_split(1)

    def check_split(self, replicas: int) -> None:
        """Checks that the batch can be cut into equal parts.

        Args:
            replicas: Devices that share a batch.

        Raises:
            InputError: It cannot; the message names the nearest sizes that can.
        """
        parts = replicas * self.gradient_accumulation
        if self.batch_size % parts == 0:
            return
        lower = self.batch_size // parts * parts
        nearest = f"{lower} or {lower + parts}" if lower else str(parts)
        raise InputError(
            f"batch_size={self.batch_size} cannot be split evenly over {replicas} replica(s) and "
            f"gradient_accumulation={self.gradient_accumulation}. Nearest batch sizes that can: "
            f"{nearest}."
        )

    def identity(self) -> dict[str, Any]:
        """What an interrupted run must share with the run that continues it."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in FREE_OPTIONS}


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a training run reports.

    Attributes:
        steps: Finished steps, over all sittings.
        seconds: Wall time, over all sittings; work after an interrupted sitting's last
            checkpoint is not counted.
        tokens_per_second: Tokens a second, padding included.
        held_out: Held-out means by term after the last step; empty without held-out data.
    """

    steps: int
    seconds: float
    tokens_per_second: float
    held_out: dict[str, float]
