"""Reading users' own tasks: classes are those of the training rows, other files are checked."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from etd_tf.errors import InputError
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.home import expand
from etd_tf.tasks.own import OwnData, OwnTask
from etd_tf.tasks.tables import Row, read_table
from etd_tf.tasks.text_task import Examples
from etd_tf.types import Array, IntArray

_HELD_OUT_EVERY = 10
_HELD_OUT_SEED = 20_190_101  # the same split in every run
_MAX_NAMES = 8  # of classes in a message
_MANY_CLASSES = 50  # and more than half of the rows: hardly classes
_Label = str | float


def read_own(task: OwnTask) -> OwnData:
    """Reads all files of a task.

    Returns:
        The data; dev is a tenth of the training rows where it has no file.

    Raises:
        InputError: A file cannot be read, or a row has no usable text or label; names file and
            line.
    """
    names, splits = task.label_names, dict[str, Examples]()
    if task.train:
        path = expand(task.train)
        texts, labels = _read_file(task, path)
        names = () if task.is_regression else _class_names(path, labels)
        splits["train"] = _examples(task, "train", texts, labels, names, path)
    if task.dev:
        path = expand(task.dev)
        splits["dev"] = _examples(task, "dev", *_read_file(task, path), names, path)
    elif task.train:
        splits = _hold_out(splits["train"], task.train)
    if task.test:
        splits["test"] = _read_test(task, expand(task.test), names)
    warn_of_copies(splits)
    return OwnData(names, splits)


def _read_test(task: OwnTask, path: Path, names: Sequence[str]) -> Examples:
    """Reads a test file, whose label column may be missing or empty."""
    rows = read_table(path, task.columns)
    found = [task.label_column in row.cells for row in rows]
    values = [row.cells.get(task.label_column) for row in rows]
    texts = [_texts(task, row) for row in rows]
    if not any(found) or all(value in (None, "") for value in values):
        return Examples(task, "test", tuple(texts), None, np.arange(len(rows)))
    labels = [(row.where, _label(task, row)) for row in rows]
    return _examples(task, "test", texts, labels, names, path)


def _read_file(task: OwnTask, path: Path) -> tuple[list[tuple[str, ...]], list[tuple[str, _Label]]]:
    """Texts of all rows, and place and label of each."""
    rows = read_table(path, (*task.columns, task.label_column))
    return [_texts(task, row) for row in rows], [(row.where, _label(task, row)) for row in rows]


def _texts(task: OwnTask, row: Row) -> tuple[str, ...]:
    texts = []
    for column in task.columns:
        text = row.cells.get(column)
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"{row.where}: {column} is {_shown(text)}, expected a text. Mend or remove the row."
            )
        texts.append(text)
    return tuple(texts)


def _label(task: OwnTask, row: Row) -> _Label:
    value = row.cells[task.label_column]
    if task.is_regression:
        number = _number(value)
        if number is None:
            raise InputError(
                f"{row.where}: {task.label_column} is {_shown(value)}, expected a finite number. "
                "Mend or remove the row, or use task=classify."
            )
        return number
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a table with gaps writes classes so
    if isinstance(value, float) and not math.isfinite(value):
        value = None  # how pandas writes a gap into JSON
    name = str(value).strip() if isinstance(value, str | int | float) else ""
    if not name:
        raise InputError(
            f"{row.where}: {task.label_column} is {_shown(value)}, expected the name of a class. "
            "Mend or remove the row."
        )
    return name


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    return "missing" if value is None else f"empty ({value!r})" if value == "" else repr(value)[:60]


def _class_names(path: Path, labels: Sequence[tuple[str, _Label]]) -> tuple[str, ...]:
    """The classes of the training rows, in the order of their numbers.

    Raises:
        InputError: There is only one, two are hardly different, or they are hardly classes.
    """
    names = sorted({str(name) for _, name in labels})
    if len(names) < 2:
        raise InputError(
            f"{path}: all {len(labels)} rows have the label {names[0]!r}; a classifier needs two "
            "classes. Check label_column."
        )
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(_folded(name), name)
        if other != name:
            raise InputError(
                f"{path}: labels {other!a} and {name!a} differ only in case, in how a "
                "letter is encoded, in invisible characters or in a zero behind the point. Write "
                "them alike."
            )
    if len(names) > max(_MANY_CLASSES, len(labels) // 2):
        raise InputError(
            f"{path}: {len(names)} different labels in {len(labels)} rows, e.g. "
            f"{', '.join(names[:_MAX_NAMES])}. Check label_column; for numbers use task=regress."
        )
    if all(name.removeprefix("-").isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(names)


def _folded(name: str) -> str:
    """A class name without what people do not see: two of the same are one class."""
    seen = "".join(
        c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf"
    )
    return re.sub(r"^([-+]?\d+)\.0*$", r"\1", seen.casefold().strip())


def _examples(
    task: OwnTask,
    split: str,
    texts: Sequence[tuple[str, ...]],
    labels: Sequence[tuple[str, _Label]],
    names: Sequence[str],
    path: Path,
) -> Examples:
    if task.is_regression:
        numbers = np.asarray([label for _, label in labels], np.float32)
    else:
        place = {name: number for number, name in enumerate(names)}
        unknown = [(where, label) for where, label in labels if label not in place]
        if unknown:
            where, label = unknown[0]
            more = ", ..." if len(names) > _MAX_NAMES else ""
            raise InputError(
                f"{where}: label {label!r} is none of the known classes "
                f"{', '.join(names[:_MAX_NAMES])}{more} ({len(unknown)} such rows in {path})."
            )
        numbers = np.asarray([place[str(label)] for _, label in labels], np.int64)
    return Examples(task, split, tuple(texts), numbers, np.arange(len(texts)))


def _hold_out(train: Examples, name: str) -> dict[str, Examples]:
    """Parts rows into nine tenths to train on and a tenth for dev with the same mix of labels.

    Rows are sorted by label, equal ones in random order, and every tenth is held out. A class
    that would not be trained on keeps all its rows.
    """
    labels = train.need_labels()
    check_enough(name, len(labels))
    held = held_out_rows(labels)
    if not train.task.is_regression:
        kept_classes = np.delete(labels, held)
        held = held[np.isin(labels[held], kept_classes)]
    tell_held_out(len(held), len(labels))
    kept = np.setdiff1d(np.arange(len(labels)), held)
    return {"train": train.take(kept), "dev": train.take(np.sort(held))}


def check_enough(name: str, rows: int) -> None:
    """Refuses a training file of too few rows to hold some out."""
    if rows < _HELD_OUT_EVERY:
        raise InputError(
            f"{name} has {rows} rows, too few to hold some out. Pass dev=FILE, or at least "
            f"{_HELD_OUT_EVERY} rows."
        )


def held_out_rows(labels: Array) -> IntArray:
    """Every tenth row in the order of the labels, equal ones in random order; `[n]` to `[m]`."""
    random = np.random.default_rng(_HELD_OUT_SEED).permutation(len(labels))
    order = random[np.argsort(labels[random], kind="stable")]
    return order[_HELD_OUT_EVERY // 2 :: _HELD_OUT_EVERY]


def tell_held_out(held: int, rows: int) -> None:
    """Says that scores are of training rows that are held out."""
    logging.warning(
        "There is no file for dev: %d of %d training rows are held out, and scores are of them. "
        "Pass dev=FILE for rows of its own.",
        held,
        rows,
    )


def warn_of_copies(splits: Mapping[str, Any]) -> None:
    """Says how many rows of dev and test are training rows: their scores flatter."""
    known = set(splits["train"].texts) if "train" in splits else set()
    for name, examples in splits.items():
        copies = sum(texts in known for texts in examples.texts)
        if name != "train" and copies:
            logging.warning(
                "The texts of %d of %d rows for %s are training rows, too. Scores are too good by "
                "that.",
                copies,
                len(examples),
                name,
            )


def balanced_weights(labels: Array) -> Array:
    """Weights by the inverse of a class's share, with mean 1.

    Returns:
        Float32 `[n]`: n / (number of classes that occur * rows of the example's class).
    """
    classes, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray((len(labels) / (len(classes) * counts))[places], np.float32)


def write_predictions(
    path: Path, indices: IntArray, predictions: Array, names: Sequence[str]
) -> Path:
    """Writes a prediction for each row.

    Args:
        path: The file, tab-separated.
        indices: Row numbers `[n]`.
        predictions: Class numbers, or numbers, `[n]`.
        names: Of the classes; empty for numbers.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(("index", "prediction"))
    for index, value in zip(indices.tolist(), predictions.tolist(), strict=True):
        writer.writerow((index, names[value] if names else f"{value:.6g}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())
    return path
