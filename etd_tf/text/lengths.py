"""Batches of similar length: texts that are rows of their own are padded no further than needed."""

import functools
import threading

import numpy as np

from etd_tf.text.records import FEATURES, RecordSet
from etd_tf.text.shuffle import shuffled
from etd_tf.types import Array, IntArray

_WINDOW = 64  # batches at most
_WINDOWS_AN_EPOCH = 4  # at least, so that a text meets itself in few windows
_EIGHTHS = (1, 2, 3, 4, 6, 8)  # of the full length; XLA compiles a program for each
_MULTIPLE = 8


class SimilarLengths:
    """Sorts a window of shuffled examples by length and cuts it into batches.

    A batch has as many examples as any other, whatever they weigh, so that a step can be found
    without reading what comes before it. The batches of a window come in a random order.

    Args:
        records: The examples.
        split: Which of them.
        batch_size: Global batch size B.
        seed: Seed of the order.
    """

    def __init__(self, records: RecordSet, split: str, *, batch_size: int, seed: int) -> None:
        self._records, self._split = records, split
        self._batch_size, self._seed = batch_size, seed
        self._count = records.num_examples(split)
        self._window = window_batches(batch_size, self._count)
        self._lengths = padded_lengths(records.sequence_length)
        self._lock = threading.Lock()
        self._opened = functools.lru_cache(maxsize=2)(self._open)

    def read(self, step: int, rows: slice) -> dict[str, Array]:
        """Reads a part of a batch.

        Args:
            step: From 0.
            rows: Which of the batch's rows.

        Returns:
            As `RecordSet.read`; arrays of tokens are cut to a length of `padded_lengths`.
        """
        number, place = divmod(step, self._window)
        with self._lock:
            examples, lengths = self._opened(number)
        order = np.argsort(lengths, kind="stable")
        batch = int(shuffled(np.array([place]), self._window, seed=self._seed, epoch=number)[0])
        whole = order[batch * self._batch_size : (batch + 1) * self._batch_size]
        length = next(end for end in self._lengths if end >= lengths[whole].max())
        return {
            key: value[whole[rows], : length if key in FEATURES else None]
            for key, value in examples.items()
        }

    def _open(self, number: int) -> tuple[dict[str, Array], IntArray]:
        """The examples of a window, and how long they are."""
        size = self._window * self._batch_size
        indices = examples_at(number * size + np.arange(size), self._count, seed=self._seed)
        examples = self._records.read(self._split, indices)
        mask = examples["padding_mask"] > 0
        return examples, np.where(mask.any(1), mask.shape[1] - mask[:, ::-1].argmax(1), 1)


def examples_at(places: IntArray, count: int, *, seed: int) -> IntArray:
    """Which examples stand at some places of the endless, shuffled order.

    Args:
        places: Int `[k]`: places from 0, over the ends of epochs.
        count: Number of examples.
        seed: Seed of the order.

    Returns:
        Int64 `[k]` in `0 .. count - 1`.
    """
    epochs = places // count
    indices = np.empty(len(places), np.int64)
    for epoch in np.unique(epochs).tolist():
        of_epoch = epochs == epoch
        indices[of_epoch] = shuffled(places[of_epoch] % count, count, seed=seed, epoch=epoch)
    return indices


def window_batches(batch_size: int, count: int) -> int:
    """How many batches are sorted by length together, for a number of examples."""
    return max(1, min(_WINDOW, count // (_WINDOWS_AN_EPOCH * batch_size)))


def padded_lengths(sequence_length: int) -> list[int]:
    """The lengths that batches are padded to, ascending."""
    parts = (-(-sequence_length * part // 8) for part in _EIGHTHS)
    rounded = (min(-(-part // _MULTIPLE) * _MULTIPLE, sequence_length) for part in parts)
    return sorted(set(rounded))


def is_a_text_a_row(records: RecordSet) -> bool:
    """Whether each example of prepared records is a text of its own rather than packed."""
    return records.manifest.get("options", {}).get("packing") is False
