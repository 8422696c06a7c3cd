"""Size and speed of models side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.latency import LatencyStats, compare_latency, measure_latency
from etd_tf.storage.sources import resolve_source

BATCH_SIZES = (1, 32)
SEQUENCE_LENGTH = 128
_FLOAT_BYTES = 4


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
