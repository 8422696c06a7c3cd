"""Flags of the training run, shared by the commands that distil."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from etd_tf.cli.app import FlagSet
from etd_tf.errors import InputError
from etd_tf.losses import LOSSES
from etd_tf.settings import NamedSetting, settings_of

if TYPE_CHECKING:
    from etd_tf.training import TrainerOptions


def define_loss_details(flag_set: FlagSet) -> None:
    """Defines what the losses and their inputs leave open."""
    for loss in LOSSES.values():
        for option in settings_of(loss):
            flag_set.setting(option)
    flag_set.number(
        "student_loss_weight",
        0.0,
        "Share of the student's own masked-LM loss in the total, below 1.",
        minimum=0.0,
    )
    flag_set.number(
        "masking_rate",
        None,
        "Share of input tokens masked; default: 0.15 where a masked-LM loss needs it, else 0.",
        minimum=0.0,
    )


def define_training(flag_set: FlagSet) -> None:
    """Defines the training run."""
    flag_set.group("Training")
    flag_set.integer("steps", 1000, "Optimizer steps.", minimum=1)
    flag_set.integer("batch_size", 32, "Sequences a step, over all devices.", minimum=1)
    flag_set.number("learning_rate", 5e-4, "Peak learning rate.")
    flag_set.integer("warmup_steps", 0, "Steps of linear warm-up.", minimum=0)
    flag_set.number("weight_decay", 0.01, "AdamW decay; biases and LayerNorms are spared.")
    flag_set.number("clip_norm", 1.0, "Largest global gradient norm; 0 for no clipping.")
    flag_set.integer(
        "gradient_accumulation",
        1,
        "Parts in which each device computes its batch, to save memory.",
        minimum=1,
    )
    flag_set.number(
        "dropout", None, "Student's dropout while distilling; default: its configuration's rates."
    )
    flag_set.integer("log_every", 10, "Steps between lines of metrics.jsonl.", minimum=1)
    flag_set.integer(
        "checkpoint_every", 200, "Steps between checkpoints; 0: on signals.", minimum=0
    )
    flag_set.integer("keep_checkpoints", 2, "Checkpoints kept on disk.", minimum=1)


def define_hardware(flag_set: FlagSet) -> None:
    """Defines where and in which precision the training step runs."""
    flag_set.group("Hardware")
    flag_set.choice(
        "strategy",
        "auto",
        ["auto", "one_device", "mirrored", "multi_worker", "tpu"],
        "tf.distribute strategy; auto takes what the machine offers.",
    )
    flag_set.choice(
        "jit_compile",
        "auto",
        ["auto", "on", "off"],
        "XLA for the training step; auto: on for GPU and TPU, where it is faster.",
    )
    precisions = ["float32", "mixed_bfloat16", "mixed_float16"]
    flag_set.choice("precision", "float32", precisions, "Precision of the student's products.")
    flag_set.choice(
        "teacher_precision",
        "auto",
        ["auto", "float32", "mixed_bfloat16"],
        "Precision of the teacher's products; auto: bfloat16 where --precision is mixed.",
    )
    flag_set.integer(
        "steps_per_call", 1, "Steps in one call of the compiled loop; 10 or more suits GPUs."
    )


def trainer_options(
    values: flags.FlagValues,
    *,
    seed: int,
    evaluate_every: int = 0,
    evaluate_at: Sequence[int] = (),
) -> "TrainerOptions":
    """Collects the training flags.

    Args:
        values: The parsed flags.
        seed: Seed of the run.
        evaluate_every: Steps between held-out evaluations.
        evaluate_at: Further steps after which to evaluate.

    Returns:
        The settings.

    Raises:
        InputError: A number is out of range or two do not fit together.
    """
    from etd_tf.training import TrainerOptions

    return TrainerOptions(
        steps=values.steps,
        batch_size=values.batch_size,
        learning_rate=values.learning_rate,
        warmup_steps=values.warmup_steps,
        weight_decay=values.weight_decay,
        clip_norm=values.clip_norm,
        gradient_accumulation=values.gradient_accumulation,
        seed=seed,
        jit_compile=values.jit_compile,
        steps_per_call=values.steps_per_call,
        log_every=values.log_every,
        evaluate_every=evaluate_every,
        evaluate_at=tuple(evaluate_at),
        checkpoint_every=values.checkpoint_every,
        keep_checkpoints=values.keep_checkpoints,
    )


def loss_options(values: flags.FlagValues, losses: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Collects each loss's own flags.

    Args:
        values: The parsed flags.
        losses: The losses in use.

    Returns:
        Arguments by loss.

    Raises:
        InputError: A flag was set that none of the losses reads.
    """
    users: dict[str, list[str]] = {}
    for name in LOSSES:
        for option in _flags(name):
            users.setdefault(option.flag, []).append(name)
    for flag, names in sorted(users.items()):
        idle = not set(names) & set(losses)
        if idle and values[flag].present and values[flag].value != values[flag].default:
            raise InputError(
                f"--{flag} has no effect on --loss={','.join(losses)}; it belongs to "
                f"{' and '.join(names)}."
            )
    return {
        loss: {option.name: values[option.flag].value for option in _flags(loss)} for loss in losses
    }


def _flags(loss: str) -> list[NamedSetting]:
    return [option for option in settings_of(LOSSES[loss]) if option.flag]
