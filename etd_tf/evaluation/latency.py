"""How long a forward pass takes, measured on this machine."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.types import Array

Forward = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class LatencyStats:
    """Time of one forward pass over a batch.

    Attributes:
        batch_size: Sequences in the batch.
        sequence_length: Tokens a sequence, none of them padding.
        repeats: Timed passes.
        median_ms: Median time of a pass, milliseconds.
        p95_ms: 95th percentile.
        sequences_per_second: `batch_size` over the median.
    """

    batch_size: int
    sequence_length: int
    repeats: int
    median_ms: float
    p95_ms: float
    sequences_per_second: float


@dataclasses.dataclass(frozen=True)
class LatencyComparison:
    """Two models timed in one run, taking turns.

    Attributes:
        teacher: The first model.
        student: The second model.
    """

    teacher: LatencyStats
    student: LatencyStats

    @property
    def speedup(self) -> float:
        """Ratio of the medians, teacher over student."""
        return self.teacher.median_ms / self.student.median_ms


def measure_latency(
    checkpoint: Checkpoint,
    *,
    batch_size: int = 1,
    sequence_length: int = 128,
    warmup: int = 3,
    repeats: int = 20,
) -> LatencyStats:
    """Times the encoder, compiled for fixed shapes, without tokenisation and heads.

    Args:
        checkpoint: The model.
        batch_size: Sequences in the batch.
        sequence_length: Tokens a sequence.
        warmup: Passes before timing starts; the first one compiles.
        repeats: Timed passes.

    Raises:
        InputError: A number is not positive or the model has fewer positions.
    """
    sizes = (batch_size, sequence_length, warmup, repeats)
    return _measure([checkpoint], *sizes)[0]


def compare_latency(
    teacher: Checkpoint,
    student: Checkpoint,
    *,
    batch_size: int = 1,
    sequence_length: int = 128,
    warmup: int = 3,
    repeats: int = 20,
) -> LatencyComparison:
    """Times two encoders in alternation, so that other load on the machine hits both.

    Args:
        teacher: The first model.
        student: The second model.
        batch_size: Sequences in the batch.
        sequence_length: Tokens a sequence.
        warmup: Passes of each before timing starts; the first one compiles.
        repeats: Timed passes of each.

    Raises:
        InputError: A number is not positive or a model has fewer positions.
    """
    sizes = (batch_size, sequence_length, warmup, repeats)
    return LatencyComparison(*_measure([teacher, student], *sizes))


def _measure(
    checkpoints: Sequence[Checkpoint],
    batch_size: int,
    sequence_length: int,
    warmup: int,
    repeats: int,
) -> list[LatencyStats]:
    _check(checkpoints, batch_size, sequence_length, warmup, repeats)
    passes = [_compiled(checkpoint, batch_size, sequence_length) for checkpoint in checkpoints]
    for forward in passes:
        for _ in range(warmup):
            forward()
    seconds = np.zeros((len(passes), repeats))
    for turn in range(repeats):
        order = range(len(passes)) if turn % 2 == 0 else reversed(range(len(passes)))
        for index in order:
            started = time.perf_counter()
            passes[index]()
            seconds[index, turn] = time.perf_counter() - started
    return [_statistics(row, batch_size, sequence_length) for row in seconds]


def _check(
    checkpoints: Sequence[Checkpoint],
    batch_size: int,
    sequence_length: int,
    warmup: int,
    repeats: int,
) -> None:
    if min(batch_size, sequence_length, warmup, repeats) < 1:
        raise InputError(
            f"batch_size={batch_size}, sequence_length={sequence_length}, warmup={warmup} and "
            f"repeats={repeats} must all be at least 1."
        )
    positions = min(checkpoint.config.max_positions for checkpoint in checkpoints)
    if sequence_length > positions:
        raise InputError(
            f"sequence_length={sequence_length} is longer than the model's {positions} positions. "
            f"Choose at most {positions}."
        )


def _compiled(checkpoint: Checkpoint, batch_size: int, sequence_length: int) -> Forward:
    """A forward pass that returns only when the result has arrived."""
    encoder, vocabulary = checkpoint.encoder, checkpoint.config.vocab_size
    generator = np.random.default_rng(0)
    shape = (batch_size, sequence_length)
    inputs = {
        "token_ids": tf.constant(generator.integers(0, vocabulary, shape), tf.int32),
        "segment_ids": tf.zeros(shape, tf.int32),
        "padding_mask": tf.ones(shape, tf.int32),
    }
    forward = tf.function(lambda batch: encoder(batch, training=False)["sequence_output"])
    return lambda: np.asarray(forward(inputs)[:, 0])  # copying a part waits for the whole


def _statistics(seconds: Array, batch_size: int, sequence_length: int) -> LatencyStats:
    median = float(np.median(seconds))
    return LatencyStats(
        batch_size=batch_size,
        sequence_length=sequence_length,
        repeats=len(seconds),
        median_ms=1e3 * median,
        p95_ms=1e3 * float(np.percentile(seconds, 95)),
        sequences_per_second=batch_size / median,
    )
