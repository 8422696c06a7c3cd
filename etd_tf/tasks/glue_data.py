"""Reading GLUE: the official TSV files or TensorFlow Datasets.

Rows are read as GLUE ships them: tabs separate fields, quotes are ordinary characters,
the first line names the columns except in CoLA's train and dev files.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.errors import InputError, shortened
from etd_tf.storage.text_files import text_lines
from etd_tf.tasks.glue import MAX_SCORE, MIN_SCORE, GlueTask
from etd_tf.tasks.text_task import Examples
from etd_tf.text.tfds import load_tfds, parse_source

_MAX_DIGITS = 18  # of an example number; more do not fit 64 bits
_INDEX_COLUMNS = ("index", "id")
_NO_LABEL = -1  # how TensorFlow Datasets writes it


def load_glue(task: GlueTask, split: str, source: str | Path) -> Examples:
    """Reads one split of a task.

    Args:
        task: The task.
        split: A key of `task.files`.
        source: The GLUE directory, or `tfds` or `tfds:DATA_DIR` for TensorFlow Datasets.

    Raises:
        InputError: The split or file does not exist, or a row cannot be read.
    """
    if split not in task.files:
        raise InputError(f"{task.label} has no split {split!r}. Splits: {', '.join(task.files)}.")
    is_tfds, folder = parse_source(source)
    if is_tfds:
        return _load_tfds(task, split, folder)
    path = Path(folder) / task.files[split].path
    if not path.is_file():
        raise InputError(
            f"{path} does not exist. glue_dir must hold GLUE's own layout "
            f"({', '.join(file.path for file in task.files.values())}), or be "
            f"tfds to use TensorFlow Datasets.{_found_instead(task, Path(folder), path)}"
        )
    return read_glue_file(task, split, path)


def _found_instead(task: GlueTask, folder: Path, path: Path) -> str:
    """What is there where a file of a task is not: the files that it is made of, or others."""
    raw = sorted(folder.glob(task.raw_files)) if task.raw_files else []
    if raw:
        return f" {raw[0].parent} holds {', '.join(file.name for file in raw)}. {task.raw_hint}"
    nearest = path.parent if path.parent.is_dir() else folder
    names = sorted(file.name for file in nearest.iterdir()) if nearest.is_dir() else []
    return f" {nearest} holds {shortened(names)}." if names else ""


def has_split(task: GlueTask, split: str, source: str | Path) -> bool:
    """Whether a split can be read; test files are often not there."""
    is_tfds, folder = parse_source(source)
    return is_tfds or (Path(folder) / task.files[split].path).is_file()


def read_glue_file(task: GlueTask, split: str, path: str | Path) -> Examples:
    """Reads one TSV file.

    Args:
        task: The task that the file belongs to.
        split: Its split, which says whether there is a header and a label.
        path: The file, UTF-8 with or without a byte order mark.

    Raises:
        InputError: A column is missing or a row cannot be read; the message has file
            and line.
    """
    path, file = Path(path), task.files[split]
    lines = ((number, line) for number, line in text_lines(path) if line)
    columns = file.columns or tuple(next(lines, (1, ""))[1].split("\t"))
    labelled = not file.submission
    wanted = (*task.columns, *((task.label_column,) if labelled else ()))
    _check_columns(path, columns, wanted)
    if twice := [name for name in wanted if columns.count(name) > 1]:
        raise InputError(f"{path}, line 1: column {twice[0]} is named twice. Rename one of them.")
    rows, skipped, undecided = [], 0, 0
    for line_number, line in lines:
        fields = line.split("\t")
        if len(fields) != len(columns) and task.skip_malformed:
            skipped += 1
            if labelled:
                continue
            fields = (fields + [""] * len(columns))[: len(columns)]
        if len(fields) == len(columns):
            row = dict(zip(columns, fields, strict=True))
            if labelled and task.undecided and row[task.label_column] == task.undecided:
                undecided += 1
            else:
                rows.append((line_number, row))
        else:
            raise InputError(
                f"{path}, line {line_number}: {len(fields)} tab-separated fields, expected "
                f"{len(columns)} ({', '.join(columns)}). Quotes do not protect tabs or line breaks."
            )
    if not rows:
        raise InputError(f"{path} has no examples. Download the file again.")
    examples = _from_rows(task, split, path, rows)
    return dataclasses.replace(examples, skipped=skipped, undecided=undecided)


def _check_columns(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise InputError(
            f"{path}, line 1: no column {', '.join(missing)}; found {', '.join(columns)}. "
            "Check that the file belongs to this task and split."
        )


def _from_rows(
    task: GlueTask,
    split: str,
    path: Path,
    rows: Sequence[tuple[int, Mapping[str, str]]],
) -> Examples:
    labels, indices = None, np.arange(len(rows))
    if task.files[split].submission:
        column = next((name for name in _INDEX_COLUMNS if name in rows[0][1]), None)
        if column is not None:
            numbers = [_index(row[column], f"{path}, line {number}") for number, row in rows]
            _check_unlike(path, column, numbers)
            indices = np.asarray(numbers)
    else:
        column = task.label_column
        values = [_label(task, row[column], f"{path}, line {number}") for number, row in rows]
        labels = np.asarray(values, np.float32 if task.is_regression else np.int64)
    texts = tuple(tuple(row[name] for name in task.columns) for _, row in rows)
    return Examples(task, split, texts, labels, indices)


def _check_unlike(path: Path, column: str, numbers: Sequence[int]) -> None:
    """Checks that a submission can have one line for each example."""
    if len(set(numbers)) < len(numbers):
        twice = next(number for number, count in Counter(numbers).items() if count > 1)
        raise InputError(
            f"{path}: {column} {twice} occurs twice, so the GLUE server would refuse the "
            "predictions. Download the file again."
        )


def _index(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise InputError(f"{where}: example number {text!r} is not a whole number.")
    return int(text)


def _label(task: GlueTask, text: str, where: str) -> float:
    """Reads a class by its spelling, or a score between 0 and 5."""
    if not task.is_regression:
        if text in task.spellings:
            return task.spellings.index(text)
        raise InputError(
            f"{where}: label {text!r} is not one of {', '.join(task.spellings)}. "
            f"Check that the file belongs to {task.label}."
        )
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not MIN_SCORE <= score <= MAX_SCORE:
        raise InputError(
            f"{where}: score {text!r} is not a number from {MIN_SCORE:g} to {MAX_SCORE:g}."
        )
    return score


def _load_tfds(task: GlueTask, split: str, data_dir: str) -> Examples:
    rows, info = load_tfds(
        task.name, task.files[split].tfds, data_dir, flag="glue_dir", files="TSV"
    )
    names = getattr(info.features["label"], "names", None) or ()
    return examples_from_tfds(task, split, rows, tuple(names))


def examples_from_tfds(
    task: GlueTask, split: str, rows: Iterable[Mapping[str, Any]], label_names: Sequence[str]
) -> Examples:
    """Converts rows of TensorFlow Datasets.

    Args:
        task: The task.
        split: The split, in this library's naming.
        rows: Dictionaries of NumPy values: the texts as UTF-8 bytes, `idx`, `label`.
        label_names: The dataset's label names in its class order, which may differ
            from the task's; empty for regression.

    Returns:
        The examples ordered by `idx`.

    Raises:
        InputError: The label names are not the task's.
    """
    if sorted(label_names) != sorted(task.label_names):
        raise InputError(
            f"{task.name} has labels {', '.join(label_names) or 'none'}; expected "
            f"{', '.join(task.label_names) or 'scores'}. Use another version of the dataset."
        )
    ordered = sorted(rows, key=lambda row: int(row["idx"]))
    labels, undecided = None, 0
    if not task.files[split].submission:
        found = len(ordered)
        if task.undecided:
            ordered = [row for row in ordered if int(row["label"]) != _NO_LABEL]
        undecided = found - len(ordered)
        values = [
            _tfds_label(task, row["label"], label_names, f"{task.name} {split}, idx {row['idx']}")
            for row in ordered
        ]
        labels = np.asarray(values, np.float32 if task.is_regression else np.int64)
    texts = tuple(tuple(row[name].decode("utf-8") for name in task.text_names) for row in ordered)
    indices = np.asarray([int(row["idx"]) for row in ordered], np.int64)
    return Examples(task, split, texts, labels, indices, undecided=undecided)


def _tfds_label(task: GlueTask, value: Any, names: Sequence[str], where: str) -> float:
    """Reads a class by its name, or a score between 0 and 5."""
    if task.is_regression:
        return _label(task, str(value), where)
    if not 0 <= int(value) < len(names):
        raise InputError(
            f"{where}: label {value} is none of the {len(names)} classes {', '.join(names)}."
        )
    return task.label_names.index(names[int(value)])
