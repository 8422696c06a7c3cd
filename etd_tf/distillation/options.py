"""Settings and result of a training run."""

import dataclasses
from typing import Any

from etd_tf.errors import InputError


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
    checkpoint_every: int = 0
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "batch_size",
            "gradient_accumulation",
            "steps_per_call",
            "log_every",
            "keep_checkpoints",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.clip_norm < 0:
            raise InputError("learning_rate must be positive, weight_decay and clip_norm >= 0.")
        if not 0 <= self.warmup_steps <= self.steps:
            raise InputError(
                f"warmup_steps={self.warmup_steps} must be between 0 and steps={self.steps}."
            )
        if self.batch_size % self.gradient_accumulation:
            raise InputError(
                f"batch_size={self.batch_size} is not a multiple of "
                f"gradient_accumulation={self.gradient_accumulation}."
            )

    def identity(self) -> dict[str, Any]:
        """What an interrupted run must share with the run that continues it."""
        free = ("log_every", "checkpoint_every", "keep_checkpoints", "steps_per_call")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in free}


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a training run reports.

    Attributes:
        steps: Finished steps, over all sittings.
        seconds: Wall time of this sitting.
        tokens_per_second: Tokens a second of this sitting, padding included.
        held_out: Held-out means by term after the last step; empty without held-out data.
    """

    steps: int
    seconds: float
    tokens_per_second: float
    held_out: dict[str, float]
