"""Size and speed of models: how long a forward pass takes on this machine, and what they cost."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.storage.sources import resolve_source
from etd_tf.types import Array

BATCH_SIZES = (1, 32)
SEQUENCE_LENGTH = 128
_FLOAT_BYTES = 4

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

    Numbers and errors are those of `measure_latency`.
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


@dataclasses.dataclass(frozen=True)
class ModelCost:
    """What a model costs.

    Attributes:
        parameters: Trainable scalars, heads included where present.
        flops: Operations of a forward pass over one sequence of `sequence_length`.
        bytes_on_disk: All files of its directory, or its weights as float32 where it has
            none.
        sequence_length: Tokens behind `flops` and `latency`.
        latency: Time of a forward pass for each batch size.
    """

    parameters: int
    flops: int
    bytes_on_disk: int
    sequence_length: int
    latency: tuple[LatencyStats, ...]


def benchmark_models(
    models: Mapping[str, Checkpoint],
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    sequence_length: int | None = None,
    repeats: int = 20,
) -> dict[str, ModelCost]:
    """Measures models, each in alternation with the first one.

    Args:
        models: Checkpoints by the name to report, the reference (a teacher) first.
        batch_sizes: Batch sizes to time.
        sequence_length: Tokens a sequence; None for 128, or for what the model with the fewest
            positions has.
        repeats: Timed passes of each model and batch size.

    Returns:
        The cost by name, in the order of `models`. Where there are several others, the
        reference's latency is that of its race with the first of them.

    Raises:
        InputError: There is no model, or one has fewer positions.
    """
    if not models:
        raise InputError("There is no model to measure. Pass at least one.")
    if sequence_length is None:
        positions = min(checkpoint.config.max_positions for checkpoint in models.values())
        sequence_length = min(SEQUENCE_LENGTH, positions)
        if positions < SEQUENCE_LENGTH:
            logging.warning("Measuring at %d tokens: no more fit every model.", positions)
    reference, *others = models
    latency: dict[str, list[LatencyStats]] = {name: [] for name in models}
    options = {"sequence_length": sequence_length, "repeats": repeats}
    for batch_size in batch_sizes:
        if not others:
            only = measure_latency(models[reference], batch_size=batch_size, **options)
            latency[reference].append(only)
        for name in others:
            race = compare_latency(
                models[reference], models[name], batch_size=batch_size, **options
            )
            latency[name].append(race.student)
            if name == others[0]:
                latency[reference].append(race.teacher)
    return {
        name: ModelCost(
            parameters=checkpoint.num_parameters(),
            flops=checkpoint.config.flops(sequence_length),
            bytes_on_disk=disk_size(checkpoint),
            sequence_length=sequence_length,
            latency=tuple(latency[name]),
        )
        for name, checkpoint in models.items()
    }


def disk_size(checkpoint: Checkpoint) -> int:
    """Bytes of all files in a checkpoint's directory, or of its weights as float32."""
    path = resolve_source(checkpoint.source) if checkpoint.source else Path()
    if not checkpoint.source or not path.is_dir():
        return _FLOAT_BYTES * checkpoint.num_parameters()
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
