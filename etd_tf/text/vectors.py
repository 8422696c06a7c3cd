"""A teacher's sentence vectors of records on disk: computed once, checked whenever they are read.

A file holds some thousand vectors, each with the number of its record and a checksum of both the
vector and the record's tokens. So only vectors that are needed are ever made, a killed process
loses at most one file, and neither a flipped bit nor other records pass unseen.
"""

import io
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from etd_tf.errors import InputError
from etd_tf.storage.atomic import write_atomically
from etd_tf.types import Array, IntArray

UNREADABLE = (
    *(OSError, ValueError, EOFError, TypeError, SyntaxError, OverflowError, MemoryError),
    *(tokenize.TokenError, zipfile.BadZipFile),
)
"""What NumPy raises for damaged files, besides its own errors."""


class VectorStore:
    """Vectors of the examples of some records, by split and number.

    Args:
        folder: Where they are; for one teacher and some records alone.
        size: Numbers of a vector (D).

    Attributes:
        folder: As given.
        size: As given.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        vector = ("vector", "<f2", (size,))
        self._dtype = np.dtype([("record", "<i8"), ("checksum", "<u4"), vector])
        self._splits: dict[str, _Split] = {}

    def missing(self, split: str, records: IntArray) -> IntArray:
        """The records of some that have no vector yet; removes damaged files.

        Returns:
            Those without a vector, ascending.
        """
        for path in self._paths(split):
            if _read(path, self._dtype) is None:
                logging.warning("%s is damaged; its vectors are computed again.", path)
                path.unlink()
        self._splits.pop(split, None)
        return np.setdiff1d(records, self._opened(split).records)

    def add(self, split: str, records: IntArray, token_ids: Array, vectors: Array) -> None:
        """Writes a file of vectors.

        Args:
            split: Where the records are.
            records: Int `[k]`: their numbers.
            token_ids: Int32 `[k, T]`: their tokens.
            vectors: Float `[k, D]`; kept as float16.
        """
        rows = np.empty(len(records), self._dtype)
        rows["record"], rows["vector"] = records, vectors
        rows["checksum"] = [*map(_checksum, token_ids, rows["vector"])]
        file = io.BytesIO()
        np.save(file, rows, allow_pickle=False)
        folder = self.folder / split
        folder.mkdir(exist_ok=True)
        number = max((int(path.stem) for path in self._paths(split)), default=-1) + 1
        write_atomically(folder / f"{number:06d}.npy", file.getvalue())
        self._splits.pop(split, None)

    def read(self, split: str, records: Array, token_ids: Array) -> Array:
        """Reads vectors.

        Args:
            split: Where the records are.
            records: Int `[k]`: their numbers.
            token_ids: Int32 `[k, T]`: their tokens, by which they are checked.

        Returns:
            Float16 `[k, D]`.

        Raises:
            InputError: A vector is damaged, was made of other tokens, or is not there.
        """
        opened = self._opened(split)
        found = np.empty((len(records), self.size), np.float16)
        for place, (record, tokens) in enumerate(zip(records, token_ids, strict=True)):
            path, row = opened.find(int(record))
            found[place] = row["vector"]
            if row["checksum"] != _checksum(tokens, found[place]):
                raise InputError(
                    f"{path} is damaged: the vector of {split} record {record} is not what was "
                    "written. Remove the file; the same command computes its vectors again."
                )
        return found

    def _opened(self, split: str) -> "_Split":
        if split not in self._splits:
            self._splits[split] = _Split(self._paths(split), self._dtype)
        return self._splits[split]

    def _paths(self, split: str) -> list[Path]:
        return sorted((self.folder / split).glob("[0-9]*.npy"))


class _Split:
    """The files of a split, memory-mapped, and where in them each record's vector is."""

    def __init__(self, paths: list[Path], dtype: np.dtype) -> None:
        self._files = [*_files(paths, dtype)]
        numbers = [np.array(rows["record"]) for _, rows in self._files]
        records = np.concatenate([np.empty(0, np.int64), *numbers])
        order = np.argsort(records, kind="stable")
        self.records, self._order = records[order], order
        self._starts = np.cumsum([0, *map(len, numbers)])

    def find(self, record: int) -> tuple[Path, Array]:
        """The file and the row of a record."""
        place = int(np.searchsorted(self.records, record))
        if place == len(self.records) or self.records[place] != record:
            raise InputError(
                f"There is no vector of record {record}. The vectors were removed in the "
                "meantime: run the same command again."
            )
        at = int(self._order[place])
        number = int(np.searchsorted(self._starts, at, side="right")) - 1
        path, rows = self._files[number]
        return path, rows[at - int(self._starts[number])]


def _files(paths: list[Path], dtype: np.dtype) -> Iterator[tuple[Path, Array]]:
    for path in paths:
        rows = _read(path, dtype)
        if rows is not None:
            yield path, rows


def _read(path: Path, dtype: np.dtype) -> Array | None:
    """The rows of a file, memory-mapped; None where it is no such file."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE:
        return None
    fits = isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype == dtype
    return np.asarray(rows) if fits else None


def _checksum(token_ids: Array, vector: Array) -> int:
    tokens = np.ascontiguousarray(token_ids, "<i4")
    return zlib.crc32(vector.tobytes(), zlib.crc32(tokens.data))
