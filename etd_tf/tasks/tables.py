"""Rows of a CSV, TSV or JSON-lines file with the line that each begins on."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from etd_tf.errors import InputError
from etd_tf.storage.text_files import text_lines
from etd_tf.text.formats import no_lines

_DELIMITERS = (",", "\t", ";")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        where: The file and the line that it begins on, for messages.
        cells: Its values by column: texts, or what JSON says.
    """

    where: str
    cells: Mapping[str, Any]


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Reads all rows of a table.

    The file is JSON lines where it begins with a brace. Else its first line names the columns,
    and the sign between them is the comma, tab or semicolon that finds the wanted ones. Cells
    may stand in double quotes; in a file with tabs that would not fit together so, quotes are
    ordinary characters.

    Args:
        path: UTF-8, with or without a byte order mark; also packed by gzip, bzip2 or xz.
        columns: Columns that every row must have.

    Returns:
        The rows in file order, at least one.

    Raises:
        InputError: It cannot be read, is no table, lacks a column, or a row has too few or too
            many cells; names file and line.
    """
    text = "\n".join(line for _, line in text_lines(path))
    if problem := no_lines(text):
        kind, advice = problem
        raise InputError(f"{path} is {kind}. {advice.replace('FILE', str(path))}.")
    is_json = text.lstrip().startswith("{")
    rows = json_rows(path, text, columns) if is_json else _cell_rows(path, text, columns)
    if not rows:
        raise InputError(f"{path} has no rows. Give a file with examples.")
    return rows


def json_rows(path: Path, text: str, columns: Sequence[str]) -> list[Row]:
    """Reads JSON lines.

    Raises:
        InputError: A line is no JSON object, or lacks a name.
    """
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where}: not JSON ({error}). Write one JSON object a line."
            ) from error
        if not isinstance(cells, dict):
            raise InputError(f"{where}: expected a JSON object, received {line[:60]!r}.")
        _check_columns(where, tuple(cells), columns)
        rows.append(Row(where, cells))
    return rows


def _cell_rows(path: Path, text: str, columns: Sequence[str]) -> list[Row]:
    delimiter = _delimiter(text, columns)
    try:
        rows = list(_split(path, text, delimiter, quoted=True))
    except InputError:
        if delimiter != "\t":
            raise
        rows = list(_split(path, text, delimiter, quoted=False))
    if delimiter == "\t" and len(rows) < sum(map(bool, map(str.strip, text.split("\n")))):
        rows = _unless_ragged(path, text) or rows
    (where, names), *body = rows if rows else [(f"{path}, line 1", [])]
    _check_names(where, names, columns)
    return [Row(at, dict(zip(names, cells, strict=True))) for at, cells in body]


def _unless_ragged(path: Path, text: str) -> list[tuple[str, list[str]]]:
    """Rows of a file with tabs, quotes taken as they are; none where they do not fit together."""
    try:
        return list(_split(path, text, "\t", quoted=False))
    except InputError:
        return []


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """The sign that parts the first line into the wanted columns, or else into the most."""
    head = text.lstrip("\r\n").partition("\n")[0]

    def found(delimiter: str) -> tuple[int, int]:
        names = _names(next(csv.reader([head], delimiter=delimiter), []))
        return sum(name in names for name in columns), len(names)

    return max(_DELIMITERS, key=found)


def _names(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _split(
    path: Path, text: str, delimiter: str, *, quoted: bool
) -> Iterator[tuple[str, list[str]]]:
    """Yields place and cells of each row, all as many as the first has."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    # Only line feeds end a row: carriage returns and separators of Unicode are text.
    stream = io.StringIO(text, newline="\n")
    reader = csv.reader(stream, delimiter=delimiter, quoting=quoting, strict=True)
    names: list[str] = []
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{where}: {error}. A cell with quotes, line breaks or the sign between columns "
                'stands in double quotes, and its own quotes are doubled: "so ""quoted"" here".'
            ) from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not names:
            names = cells = _names(cells)
        if len(cells) != len(names):
            raise InputError(
                f"{where}: {len(cells)} cells, expected {len(names)} ({', '.join(names)}). Cells "
                f"are parted by {delimiter!r}; put cells that hold it into double quotes."
            )
        yield where, cells


def _check_names(where: str, names: Sequence[str], columns: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where}: column {', '.join(twice)} is named twice. Rename one of them.")
    _check_columns(where, names, columns)


def _check_columns(where: str, names: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(
            f"{where}: no column {', '.join(missing)}; found {', '.join(names) or 'none'}. The "
            "first line of a table names its columns. Say which to read with text_column=..., "
            "pair_column=... and label_column=...."
        )
