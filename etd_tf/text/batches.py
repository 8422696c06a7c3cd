"""Batches in an order that depends on (seed, epoch, step) alone, so that a run can resume."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from etd_tf.errors import InputError, input_errors
from etd_tf.text.lengths import SimilarLengths, examples_at, window_batches
from etd_tf.text.record_directories import open_records
from etd_tf.text.records import FEATURES, TRAIN, VALIDATION, RecordSet
from etd_tf.text.shuffle import shuffled
from etd_tf.types import Array, IntArray

__all__ = [
    "Worker",
    "batch_indices",
    "evaluation_batches",
    "input_errors",
    "load_examples",
    "make_batches",
]

_PARALLEL_READS = 2
_FORESEEN = 8  # batches ready before they are needed
# Orders that training never uses.
_EVALUATION_SEED, _SAMPLE_EPOCH = 0, 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Worker:
    """Which part of every global batch a process reads.

    Attributes:
        index: From 0.
        count: Processes in all.
    """

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> slice:
        """The worker's rows of a global batch.

        Raises:
            InputError: The batch cannot be divided equally.
        """
        if not 0 <= self.index < self.count:
            raise InputError(f"Worker {self.index} of {self.count}: expected 0 <= index < count.")
        if batch_size < 1 or batch_size % self.count:
            raise InputError(
                f"batch_size={batch_size} (the global size) cannot be divided among "
                f"{self.count} worker(s). Give a positive multiple of {self.count}."
            )
        share = batch_size // self.count
        return slice(self.index * share, (self.index + 1) * share)


def make_batches(
    records: RecordSet | str | Path,
    *,
    batch_size: int,
    seed: int,
    split: str = TRAIN,
    start_step: int = 0,
    worker: Worker | None = None,
    sequence_length: int | None = None,
    similar_lengths: bool = False,
) -> tf.data.Dataset:
    """Makes the endless stream of training batches.

    Every epoch is another true shuffle of all examples; batches run on over its end, so
    each example is seen once an epoch. Step k is found directly, without reading what
    comes before it.

    Args:
        records: Records, or where they are (see `open_records`).
        batch_size: Global batch size, over all workers.
        seed: Seed of the order.
        split: Which examples.
        start_step: The first step; the stream is that of an uninterrupted run from there.
        worker: The part of each batch to read; default: all of it.
        sequence_length: Refuse records of another length.
        similar_lengths: Put examples of similar length into a batch, and pad them to one of few
            lengths; T is then not static.

    Returns:
        Data set of int32 `[rows, T]` `token_ids, segment_ids, padding_mask`, shapes
        static. Records with masked-LM targets add `masked_lm_positions, masked_lm_ids`
        (int32 `[rows, P]`) and `masked_lm_weights` (float32), those with the teacher's sentence
        vectors `teacher_vector` (float16 `[rows, D]`). Reading errors surface as TensorFlow
        errors; iterate inside `etd_tf.errors.input_errors()` to get them as `InputError`.

    Raises:
        InputError: There is no such split, or the sizes do not fit.
    """
    records = _opened(records, sequence_length)
    count = records.num_examples(split)
    if not count:
        raise InputError(f"The {split} split of {records.source} is empty. Give more text.")
    rows = (worker or Worker()).rows(batch_size)
    sorted_ = SimilarLengths(records, split, batch_size=batch_size, seed=seed)

    def read(step: IntArray) -> dict[str, Array]:
        if similar_lengths:
            return sorted_.read(int(step), rows)
        return records.read(split, batch_indices(int(step), batch_size, count, seed=seed)[rows])

    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    share = rows.stop - rows.start
    return _dataset(steps, read, records, share, lengths_vary=similar_lengths)


def batch_indices(step: int, batch_size: int, count: int, *, seed: int) -> IntArray:
    """Which examples the batch of a step holds.

    Args:
        step: From 0.
        batch_size: Global batch size B.
        count: Number of examples.
        seed: Seed of the order.

    Returns:
        Int64 `[B]` in `0 .. count - 1`.
    """
    return examples_at(step * batch_size + np.arange(batch_size), count, seed=seed)


def examples_of_steps(
    steps: int, batch_size: int, count: int, *, seed: int, similar_lengths: bool = False
) -> IntArray:
    """Which examples the first steps of a run read.

    Args:
        steps: How many steps.
        batch_size: Global batch size.
        count: Number of examples.
        seed: Seed of the order.
        similar_lengths: As for `make_batches`: windows are read as a whole.

    Returns:
        Int64: different numbers in `0 .. count - 1`.
    """
    if similar_lengths:
        window = window_batches(batch_size, count)
        steps = -(-steps // window) * window
    places = np.arange(min(steps * batch_size, count))
    return shuffled(places, count, seed=seed, epoch=0)


def examples_of_evaluation(sequences: int, batch_size: int, count: int) -> IntArray:
    """Which examples the first batches of `evaluation_batches` hold.

    Args:
        sequences: How many are asked for, rounded up to whole batches.
        batch_size: Global batch size.
        count: Number of examples.

    Returns:
        Int64: different numbers in `0 .. count - 1`.
    """
    places = np.arange(min(-(-sequences // batch_size) * batch_size, count))
    return _in_sample_order(places, count)


def evaluation_batches(
    records: RecordSet | str | Path,
    *,
    batch_size: int,
    split: str = VALIDATION,
    worker: Worker | None = None,
    sequence_length: int | None = None,
) -> tf.data.Dataset:
    """Makes one pass over a split, always in the same shuffled order.

    The order does not depend on a seed, so `take(n)` is a fixed, representative sample.
    The last batch is filled with rows of zeros: their `padding_mask` is 0 everywhere, and
    they must not count in a mean.

    Args:
        records: Records, or where they are.
        batch_size: Global batch size.
        split: Which examples.
        worker: The part of each batch to read; default: all of it.
        sequence_length: Refuse records of another length.

    Returns:
        Finite data set, elements as `make_batches`.

    Raises:
        InputError: There is no such split, or the sizes do not fit.
    """
    records = _opened(records, sequence_length)
    count = records.num_examples(split)
    rows = (worker or Worker()).rows(batch_size)
    share = rows.stop - rows.start

    def read(step: IntArray) -> dict[str, Array]:
        places = np.arange(int(step) * batch_size, min((int(step) + 1) * batch_size, count))[rows]
        batch = records.read(split, _in_sample_order(places, count))
        filling = share - len(places)
        return {key: np.pad(value, ((0, filling), (0, 0))) for key, value in batch.items()}

    steps = tf.data.Dataset.range(-(-count // batch_size))
    return _dataset(steps, read, records, share)


def _in_sample_order(places: IntArray, count: int) -> IntArray:
    return shuffled(places, count, seed=_EVALUATION_SEED, epoch=_SAMPLE_EPOCH)


def load_examples(
    records: RecordSet | str | Path, count: int, *, seed: int, split: str = TRAIN
) -> dict[str, Array]:
    """Reads a random sample of different examples into memory.

    Args:
        records: Records, or where they are.
        count: How many; a smaller sample with the same seed is its beginning.
        seed: Seed of the choice.
        split: Which examples.

    Returns:
        Int32 `[count, T]` arrays; keys as `make_batches`.

    Raises:
        InputError: The split holds fewer examples, or a file is damaged.
    """
    records = _opened(records, None)
    available = records.num_examples(split)
    if not 1 <= count <= available:
        raise InputError(
            f"{count} examples were asked for, but the {split} split of {records.source} holds "
            f"{available}. Ask for 1 to {available} examples, or give more text."
        )
    order = shuffled(np.arange(count), available, seed=seed, epoch=_SAMPLE_EPOCH)
    return records.read(split, order)


def _opened(records: RecordSet | str | Path, sequence_length: int | None) -> RecordSet:
    if not isinstance(records, RecordSet):
        return open_records(records, sequence_length=sequence_length)
    records.check_sequence_length(sequence_length)
    return records


def _dataset(
    steps: tf.data.Dataset,
    read: Callable[[IntArray], dict[str, Array]],
    records: RecordSet,
    rows: int,
    *,
    lengths_vary: bool = False,
) -> tf.data.Dataset:
    """Maps step numbers to batches, reading ahead in the background."""
    shapes = {
        key: (dtype, [rows, None if lengths_vary and key in FEATURES else width])
        for key, (dtype, width) in records.columns.items()
    }

    def read_in_order(step: IntArray) -> list[Array]:
        batch = read(step)
        return [batch[key] for key in shapes]

    def load(step: tf.Tensor) -> dict[str, tf.Tensor]:
        dtypes = [dtype for dtype, _ in shapes.values()]
        values = tf.numpy_function(read_in_order, [step], dtypes)
        return {
            key: tf.ensure_shape(value, shapes[key][1])
            for key, value in zip(shapes, values, strict=True)
        }

    dataset = steps.map(load, num_parallel_calls=_PARALLEL_READS, deterministic=True)
    options = tf.data.Options()
    options.autotune.enabled = False  # a fixed, small number of threads
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(_FORESEEN).with_options(options)
