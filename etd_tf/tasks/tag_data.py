"""Reading sentences whose words have tags: CoNLL files and JSON lines."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from etd_tf.errors import InputError
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.home import expand
from etd_tf.storage.text_files import text_lines
from etd_tf.tasks import entities
from etd_tf.tasks.own import OwnData
from etd_tf.tasks.own_data import check_enough, held_out_rows, tell_held_out, warn_of_copies
from etd_tf.tasks.tables import Row, json_rows
from etd_tf.tasks.tag import Tag
from etd_tf.types import IntArray

_DOCUMENT = "-DOCSTART-"
# JSON names before those of the options, where these are as they were.
_WORDS, _TAGS = ("tokens", "text"), ("ner_tags", "tags", "label")
_MAX_NAMES = 8  # in a message


@dataclasses.dataclass(frozen=True)
class Sentences:
    """A split in memory.

    Attributes:
        texts: The words of each sentence.
        labels: Int64 classes of all words, one sentence behind the other; None where there are
            none.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: IntArray | None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> IntArray:
        """Words of each sentence, `[n]`."""
        return np.asarray([len(words) for words in self.texts], np.int64)

    def take(self, rows: IntArray) -> "Sentences":
        """Returns the sentences at the given positions, in that order."""
        labels = self.labels
        if labels is not None:
            parts = np.split(labels, np.cumsum(self.lengths)[:-1])
            labels = np.concatenate([parts[row] for row in rows])
        return Sentences(tuple(self.texts[row] for row in rows), labels)

    def fingerprint(self) -> str:
        """SHA-256 of words and labels; the same from whatever files."""
        labels = None if self.labels is None else self.labels.tolist()
        return hashlib.sha256(json.dumps((self.texts, labels)).encode()).hexdigest()


@dataclasses.dataclass
class _File:
    """What a file says: words, their tags where it has some, and their lines."""

    path: Path
    words: list[list[str]] = dataclasses.field(default_factory=list)
    tags: list[list[str]] = dataclasses.field(default_factory=list)
    lines: list[list[int]] = dataclasses.field(default_factory=list)

    def place(self, found: entities.Break) -> str:
        lines = self.lines[found.sentence]
        return f"{self.path}, line {lines[min(found.word, len(lines) - 1)]}"

    def all_tags(self) -> Iterator[tuple[int, str]]:
        """Line and tag of each word."""
        for lines, tags in zip(self.lines if self.tags else (), self.tags, strict=True):
            yield from zip(lines, tags, strict=True)


def read_tags(task: Tag) -> OwnData:
    """Reads all files of a task.

    Args:
        task: The task; one of its files is given.

    Returns:
        The data; dev is a tenth of the training sentences where it has no file.

    Raises:
        InputError: A file cannot be read, or a row is malformed; names file and line.
    """
    files = {
        split: _read_file(task, expand(path), labelled=split != "test")
        for split in ("train", "dev", "test")
        if (path := getattr(task, split))
    }
    names, scheme = task.label_names, ""
    if "train" in files:
        scheme = _scheme(files["train"])
        names = _class_names(files["train"], scheme)
    splits: dict[str, Sentences] = {}
    for split, file in files.items():
        if file.tags and split != "train":
            scheme = scheme or _scheme(file)
            _check_scheme(file, scheme)
        splits[split] = _sentences(file, names)
    if scheme:
        logging.info("%s: %s, %d tags: %s.", task.source, scheme, len(names), ", ".join(names))
    if "train" in splits and "dev" not in splits:
        splits |= _hold_out(splits["train"], str(task.train))
    warn_of_copies(splits)
    return OwnData(names, splits)


def _hold_out(train: Sentences, name: str) -> dict[str, Sentences]:
    """Parts sentences into nine tenths to train on and a tenth for dev, of all lengths."""
    check_enough(name, len(train))
    held = held_out_rows(train.lengths)
    tell_held_out(len(held), len(train))
    kept = np.setdiff1d(np.arange(len(train)), held)
    return {"train": train.take(kept), "dev": train.take(np.sort(held))}


def _read_file(task: Tag, path: Path, *, labelled: bool) -> _File:
    text = "\n".join(line for _, line in text_lines(path))
    if text.lstrip().startswith("{"):
        file = _read_json(task, path, text, labelled=labelled)
    else:
        file = _read_conll(path, text)
    if not file.words:
        raise InputError(f"{path} has no words. Give one word and its tag a line.")
    if labelled and not file.tags:
        raise InputError(
            f"{path}, line {file.lines[0][0]}: one column, expected a word and its tag, parted by "
            "a tab or spaces."
        )
    if any(entities.is_prefixed(tag) for _, tag in file.all_tags()):
        for number, tag in file.all_tags():
            if tag != entities.OUTSIDE and not entities.is_prefixed(tag):
                raise InputError(
                    f"{path}, line {number}: the tag is {tag!r}, expected O, or B- or I- and a "
                    "type as in other rows. Mend the row."
                )
    return file


def _read_conll(path: Path, text: str) -> _File:
    """Reads a word a line, the tag in the last column; an empty line ends a sentence."""
    file = _File(path)
    sample = next((line for line in text.split("\n") if _is_row(line)), "")
    separator = "\t" if "\t" in sample else None
    width, open_ = len(sample.split(separator)), False
    for number, line in enumerate(text.split("\n"), 1):
        cells = [cell.strip() for cell in line.split(separator)]
        if not line.strip() or line.startswith(_DOCUMENT):
            open_ = False
            continue
        if line.startswith("#") and not open_ and not _fits(cells, width):
            continue  # a comment
        if len(cells) != width or not all((cells[0], cells[-1])):
            shown = "tabs" if separator else "spaces"
            raise InputError(
                f"{path}, line {number}: {len(list(filter(None, cells)))} columns, expected "
                f"{width}, parted by {shown}: the word first and its tag last. Mend the row."
            )
        if not open_:
            file.words.append([])
            file.lines.append([])
            file.tags.extend([] for _ in range(width > 1))
            open_ = True
        file.words[-1].append(cells[0])
        file.lines[-1].append(number)
        if width > 1:
            file.tags[-1].append(cells[-1])
    return file


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not line.startswith((_DOCUMENT, "#"))


def _fits(cells: Sequence[str], width: int) -> bool:
    """Whether a line that begins as a comment does is a row of the word `#`."""
    last = cells[-1]
    return len(cells) == width and (
        width == 1 or last == entities.OUTSIDE or entities.is_prefixed(last)
    )


def _read_json(task: Tag, path: Path, text: str, *, labelled: bool) -> _File:
    """Reads an object a line with a list of words and one of tags."""
    file, rows = _File(path), json_rows(path, text, ())
    word_names = _WORDS if task.text_column in _WORDS else (task.text_column,)
    tag_names = _TAGS if task.label_column in _TAGS else (task.label_column,)
    for number, row in zip(_line_numbers(text), rows, strict=True):
        words = _listed(row, word_names, "text_column")
        tags = None
        if labelled or any(name in row.cells for name in tag_names):
            tags = _listed(row, tag_names, "label_column")
            if len(tags) != len(words):
                raise InputError(
                    f"{row.where}: {len(words)} words and {len(tags)} tags. Mend the row."
                )
        if words:
            file.words.append(words)
            file.lines.append([number] * len(words))
            file.tags += [] if tags is None else [tags]
    if file.tags and len(file.tags) != len(file.words):
        raise InputError(f"{path}: some rows have tags and others none. Mend the file.")
    return file


def _line_numbers(text: str) -> list[int]:
    return [number for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _listed(row: Row, names: Sequence[str], option: str) -> list[str]:
    """The list of texts under the first of some names that a row has."""
    found = next((name for name in names if name in row.cells), None)
    if found is None:
        raise InputError(
            f"{row.where}: none of {', '.join(names)} is there; found {', '.join(row.cells)}. Say "
            f"which to read with {option}=...."
        )
    values = row.cells[found]
    wrong = [values]
    if isinstance(values, list):
        wrong = [one for one in values if not isinstance(one, str) or not one.strip()]
    if wrong:
        numbers = " Write names, not their numbers." if isinstance(wrong[0], int) else ""
        raise InputError(
            f"{row.where}: {found} holds {wrong[0]!r}, expected a list of words that are not "
            f"empty.{numbers}"
        )
    return list(values)


def _scheme(file: _File) -> str:
    """The scheme that a file keeps.

    Raises:
        InputError: It keeps none; names the line that breaks the likeliest one.
    """
    letters = {entities.split_tag(tag)[0] for _, tag in file.all_tags()}
    prefixed = any(entities.is_prefixed(tag) for _, tag in file.all_tags())
    schemes = [entities.IOB2, entities.IOB1] if prefixed else [entities.IO]
    if letters & set("ES"):
        schemes = [entities.IOBES]
    breaks = [(scheme, entities.first_break(file.tags, scheme)) for scheme in schemes]
    for scheme, found in breaks:
        if found is None:
            return scheme
    told = [f"{file.place(found)}: {found.text}." for _, found in breaks if found is not None]
    raise InputError(
        " ".join([*told[:1], *(f"Nor is it {schemes[-1]}: {one}" for one in told[1:])])
        + " Mend the row."
    )


def _check_scheme(file: _File, scheme: str) -> None:
    """Refuses a file of another scheme than the training file's."""
    found = entities.first_break(file.tags, scheme)
    if found is not None:
        raise InputError(
            f"{file.place(found)}: {found.text}, the scheme of the training file. Mend the row, or "
            "write all files in one scheme."
        )


def _class_names(file: _File, scheme: str) -> tuple[str, ...]:
    tags = {tag for _, tag in file.all_tags()}
    if len(tags) < 2:
        raise InputError(
            f"{file.path}: all words have the tag {min(tags)!r}. The tag is the last column of a "
            "CoNLL file; check the file, or label_column."
        )
    return entities.complete_names(tags, scheme)


def _sentences(file: _File, names: Sequence[str]) -> Sentences:
    labels, place = None, {name: number for number, name in enumerate(names)}
    if file.tags:
        unknown = [(number, tag) for number, tag in file.all_tags() if tag not in place]
        if unknown:
            number, tag = unknown[0]
            more = ", ..." if len(names) > _MAX_NAMES else ""
            raise InputError(
                f"{file.path}, line {number}: tag {tag!r} is none of the known tags "
                f"{', '.join(names[:_MAX_NAMES])}{more} ({len(unknown)} such words)."
            )
        labels = np.asarray([place[tag] for _, tag in file.all_tags()], np.int64)
    return Sentences(tuple(map(tuple, file.words)), labels)


def write_predictions(path: Path, texts: Sequence[Sequence[str]], tags: Sequence[str]) -> Path:
    """Writes a word and its tag a line, with a tab between, and an empty line behind a sentence.

    Args:
        path: The file.
        texts: The words of each sentence.
        tags: Of all words.

    Returns:
        The file.
    """
    left = iter(tags)
    lines = ["".join(f"{' '.join(w.split())}\t{next(left)}\n" for w in words) for words in texts]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "\n".join(lines))
    return path
