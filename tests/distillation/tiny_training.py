"""A trainer over tiny models and a fixed stream of batches, for the tests of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.distillation import Distiller, Trainer
from etd_tf.losses import Loss, MiniLM
from etd_tf.modeling.parameters import get_parameters
from etd_tf.training import TrainerOptions
from tests.helpers import random_batch, random_parameters, tiny_checkpoint, tiny_config

TEACHER_SIZES = {"num_layers": 2, "hidden_size": 6, "num_heads": 2, "intermediate_size": 7}
STUDENT_SIZES = {"num_layers": 1, "hidden_size": 4, "num_heads": 2, "intermediate_size": 5}
BATCH, LENGTH, STREAM = 4, 7, 16


def tiny_teacher() -> Checkpoint:
    return tiny_checkpoint(0, mlm_head=True, **TEACHER_SIZES)


def tiny_student(dropout: float = 0.0, dtype: str = "float32") -> Checkpoint:
    config = tiny_config(**STUDENT_SIZES, hidden_dropout=dropout, attention_dropout=dropout)
    return Checkpoint(config, random_parameters(config, 1, mlm_head=True), dtype=dtype)


def make_distiller(
    loss: Loss | None = None, *, dropout: float = 0.0, precision: str = "float32"
) -> Distiller:
    keras.utils.set_random_seed(0)  # for projections
    teacher_dtype = None if precision == "float32" else "mixed_bfloat16"
    return Distiller(
        tiny_teacher(),
        tiny_student(dropout, precision),
        loss or MiniLM(),
        teacher_dtype=teacher_dtype,
    )


def make_trainer(
    run_dir: Path,
    *,
    loss: Loss | None = None,
    dropout: float = 0.0,
    precision: str = "float32",
    strategy: tf.distribute.Strategy | None = None,
    identity: dict[str, Any] | None = None,
    **options: Any,
) -> Trainer:
    settings = {"steps": 6, "batch_size": BATCH, "learning_rate": 0.01, "log_every": 1, **options}
    return Trainer(
        lambda: make_distiller(loss, dropout=dropout, precision=precision),
        TrainerOptions(**settings),
        run_dir=run_dir,
        strategy=strategy,
        mixed_float16=precision == "mixed_float16",
        identity=identity,
    )


def batch_of(step: int, size: int = BATCH) -> dict[str, np.ndarray]:
    """The batch of a step, with masked-LM targets."""
    batch = random_batch(tiny_config(**TEACHER_SIZES), batch_size=size, length=LENGTH, seed=step)
    generator = np.random.default_rng(step)
    batch["masked_lm_positions"] = generator.integers(0, 3, (size, 2)).astype(np.int32)
    batch["masked_lm_ids"] = generator.integers(0, 80, (size, 2)).astype(np.int32)
    batch["masked_lm_weights"] = np.tile(np.float32([1, 1]), (size, 1))
    return batch


def stream(size: int = BATCH) -> Callable[[int, int, int], tf.data.Dataset]:
    """Training batches as `Trainer.fit` wants them; for one worker."""
    batches = [batch_of(step, size) for step in range(STREAM)]
    whole = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}

    def train_batches(step: int, num_workers: int, worker_index: int) -> tf.data.Dataset:
        assert (num_workers, worker_index) == (1, 0)
        return tf.data.Dataset.from_tensor_slices(whole).skip(step)

    return train_batches


def validation() -> tf.data.Dataset:
    """Two held-out batches; the second ends in two rows that are all padding."""
    first, second = batch_of(100), batch_of(101)
    for value in second.values():
        value[2:] = 0
    return tf.data.Dataset.from_tensor_slices(
        {name: np.stack([first[name], second[name]]) for name in first}
    )


def weights_of(trainer: Trainer) -> dict[str, np.ndarray]:
    student = trainer.distiller.student
    return get_parameters(student.encoder, student.mlm_head)


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.max(np.abs(a[name] - b[name]))) for name in a)
