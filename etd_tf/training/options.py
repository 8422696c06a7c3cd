"""Settings and result of a training run."""

import dataclasses
from typing import Any

from etd_tf.errors import InputError
from etd_tf.settings import Settings, setting, settings_of

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
JIT_CHOICES = ("auto", "on", "off")
_LARGEST_SEED = 2**31 - 1 - 2**24  # int32, and room for what replicas add to it


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerOptions(Settings):
    """Settings of a training run.

    Raises:
        InputError: A number is out of range or two do not fit together.
    """

    title = "Training"

    steps: int = setting(1000, "Optimizer steps.", least=1)
    batch_size: int = setting(32, "Sequences a step, over all devices.", least=1)
    learning_rate: float = setting(5e-4, "Peak learning rate.", least=0.0)
    warmup_steps: int = setting(0, "Steps of linear warm-up.", least=0)
    weight_decay: float = setting(0.01, "AdamW decay; biases and LayerNorms are spared.", least=0.0)
    clip_norm: float = setting(1.0, "Largest global gradient norm; 0 for no clipping.", least=0.0)
    gradient_accumulation: int = setting(
        1, "Parts in which each device computes its batch, to save memory.", least=1
    )
    log_every: int = setting(10, "Steps between lines of metrics.jsonl.", least=1, free=True)
    checkpoint_every: int = setting(
        200, "Steps between checkpoints; 0: on signals and at the end.", least=0, free=True
    )
    keep_checkpoints: int = setting(2, "Checkpoints kept on disk.", least=1, free=True)
    evaluate_every: int = setting(
        100, "Steps between held-out evaluations; 0: at the end.", least=0, free=True
    )
    evaluate_at: tuple[int, ...] = setting(
        (), "Further steps after which to evaluate.", flag="", least=1, free=True
    )
    jit_compile: str = setting(
        "auto",
        "XLA for the training step; auto: on for GPU and TPU, where it is faster.",
        choices=JIT_CHOICES,
        group="Hardware",
    )
    steps_per_call: int = setting(
        1,
        "Steps in one call of the compiled loop; 10 or more suits GPUs.",
        least=1,
        free=True,
        group="Hardware",
    )
    seed: int = setting(0, "Seed of every random choice.", least=0, most=_LARGEST_SEED, group="Run")

    def __post_init__(self) -> None:
        super().__post_init__()
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
        return {
            one.name: getattr(self, one.name)
            for one in settings_of(type(self))
            if not one.said.free
        }


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
