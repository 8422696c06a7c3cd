"""Sources of text, each read as documents, from the beginning or from a mark."""

import abc
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.atomic import sha256
from etd_tf.storage.text_files import BEGINNING, HALF_PAIR, Mark, decode, read_lines
from etd_tf.text.formats import JSON_NAMES, Layout, recognise
from etd_tf.text.tfds import import_tfds

MAX_DOCUMENT = 1 << 20  # characters; longer than any encyclopedia article
# What ends a line besides "\n", as `str.splitlines` has it: a tokenizer would join words there.
_LINE_ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_MAX_JSON_LINE = 32 << 20  # bytes; far more than the longest document


class Source(abc.ABC):
    """One part of a corpus."""

    @abc.abstractmethod
    def marked(self, start: Mark = BEGINNING) -> Iterator[tuple[Mark | None, str]]:
        """Yields documents that are not blank, lines stripped, without blank lines.

        Args:
            start: A mark that came with a document: that one is the first.

        Yields:
            The place of the document, where reading can start there, and its text.
        """

    def documents(self, start: Mark = BEGINNING) -> Iterator[tuple[Mark | None, str]]:
        """As `marked`, with overlong documents in parts."""
        for mark, document in self.marked(start):
            for number, part in enumerate(_parts(document)):
                yield (None if number else mark), part

    @abc.abstractmethod
    def content_hash(self) -> str:
        """Digest of the content, independent of where it lies."""

    def absolute(self) -> "Source":
        """The same source for a process with another current directory."""
        return self


@dataclasses.dataclass(frozen=True)
class _File(Source):
    """A file."""

    path: Path

    def absolute(self) -> Source:
        """As `Source.absolute`."""
        return dataclasses.replace(self, path=self.path.absolute())

    def content_hash(self) -> str:
        """SHA-256 of the file."""
        try:
            return sha256(self.path)
        except OSError as error:
            raise InputError(f"Cannot read {self.path}: {error.strerror}.") from error


@dataclasses.dataclass(frozen=True)
class TextFile(_File):
    """Plain UTF-8 text with blank lines between documents."""

    def marked(self, start: Mark = BEGINNING) -> Iterator[tuple[Mark | None, str]]:
        """Yields the runs of lines between blank lines."""
        lines: list[str] = []
        size, before, mark = 0, 0, None
        for number, offset, raw in read_lines(self.path, MAX_DOCUMENT, start=start):
            line = decode(raw, self.path, number, offset).strip()
            if line:
                if not lines:  # reading can start at a line, but not inside of one
                    mark = (offset, number) if number != before else None
                lines.append(line)
                size += len(line) + 1
            if lines and (not line or size >= MAX_DOCUMENT):
                yield mark, _joined(lines)
                lines, size = [], 0
            before = number
        if lines:
            yield mark, _joined(lines)


def _doc_tags(line: str) -> list[str]:
    return re.split(r"^<doc(?:\s.*)?>$|</doc>$", line)


def _wikitext(line: str) -> list[str]:
    if match := re.fullmatch(r"((?:= )+)(.+?)((?: =)+)", line):
        return ["", match[2]] if len(match[1]) == len(match[3]) == 2 else [match[2]]
    return [re.sub(r" @([-,.])@ ", r"\1", line)]


_SPLITS: dict[Layout, Callable[[str], list[str]]] = {
    Layout.DOC_TAGS: _doc_tags,
    Layout.END_OF_TEXT: lambda line: line.split("<|endoftext|>"),
    Layout.WIKITEXT: _wikitext,
}
"""What a line holds of each document, in order; more than one part: a document ends."""


@dataclasses.dataclass(frozen=True)
class MarkedText(_File):
    """Text whose documents are told apart by marks instead of blank lines.

    Attributes:
        layout: Which marks: WikiExtractor's `<doc ...>` and `</doc>`, `<|endoftext|>`, or
            wikitext's ` = Title = `. They are no part of the documents.
    """

    layout: Layout

    def content_hash(self) -> str:
        """Another one than of the same bytes read as plain text."""
        return _layout_hash(self.layout, super().content_hash())

    def marked(self, start: Mark = BEGINNING) -> Iterator[tuple[Mark | None, str]]:
        """Yields what is between two marks; blank lines do not end a document."""
        split = _SPLITS[self.layout]
        lines: list[str] = []
        size, before, mark = 0, 0, None
        for number, offset, raw in read_lines(self.path, MAX_DOCUMENT, start=start):
            parts = split(decode(raw, self.path, number, offset).strip())
            for place, part in enumerate(map(str.strip, parts)):
                if lines and (place or size >= MAX_DOCUMENT):
                    yield mark, _joined(lines)
                    lines, size = [], 0
                if part:
                    if not lines:  # reading can start here if nothing else is in the line before
                        alone = number != before and not any(map(str.strip, parts[:place]))
                        mark = (offset, number) if alone else None
                    lines.append(part)
                    size += len(part) + 1
            before = number
        if lines:
            yield mark, _joined(lines)


@dataclasses.dataclass(frozen=True)
class JsonLines(_File):
    """One JSON object a line with a `text` field."""

    def content_hash(self) -> str:
        """SHA-256 of the file; another one where only the content says that it is JSON."""
        digest = super().content_hash()
        named = self.path.name.removesuffix(".gz").endswith(JSON_NAMES)
        return digest if named else _layout_hash(Layout.JSON_LINES, digest)

    def marked(self, start: Mark = BEGINNING) -> Iterator[tuple[Mark | None, str]]:
        """Yields the `text` of each line; its blank lines do not end the document."""
        lines = read_lines(self.path, _MAX_JSON_LINE, cut=False, start=start)
        for number, offset, raw in lines:
            line = decode(raw, self.path, number, offset)
            if line.strip() and (document := _tidy(self._text(line, number))):
                yield (offset, number), document

    def _text(self, line: str, number: int) -> str:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.path}:{number}: not valid JSON ({error}).") from error
        text = value.get("text") if isinstance(value, dict) else None
        if not isinstance(text, str):
            found = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise InputError(
                f"{self.path}:{number}: expected a JSON object with a string field 'text', "
                f"found {found}. Rename the field that holds the text to 'text'."
            )
        return text if text.isascii() else HALF_PAIR.sub("\ufffd", text)


@dataclasses.dataclass(frozen=True)
class PydocSource(Source):
    """Python's own reference text, a topic a document; inside every Python."""

    def marked(self, start: Mark = BEGINNING) -> Iterator[tuple[Mark | None, str]]:
        """Yields the topics in alphabetical order."""
        from pydoc_data.topics import topics

        for number, name in enumerate(sorted(topics)):
            if number >= start[0] and (document := _tidy(topics[name])):
                yield (number, 1), document

    def content_hash(self) -> str:
        """SHA-256 of the text: it differs between Python versions."""
        digest = hashlib.sha256()
        for _, document in self.marked():
            digest.update(document.encode("utf-8") + b"\0")
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class TfdsSource(Source):
    """The `train` split of a prepared TensorFlow Dataset with a `text` feature.

    Attributes:
        name: `NAME[/CONFIG][:VERSION]`, found under `TFDS_DATA_DIR`.
    """

    name: str

    def marked(self, start: Mark = BEGINNING) -> Iterator[tuple[Mark | None, str]]:
        """Yields the `text` of each example, always in the same order."""
        dataset = self._builder().as_dataset(split="train", shuffle_files=False)
        # Not train[n:]: examples of several files alternate, and other files do otherwise.
        examples = dataset.skip(start[0]).as_numpy_iterator()
        for number, example in enumerate(examples, start[0]):
            if document := _tidy(example["text"].decode("utf-8")):
                yield (number, 1), document

    def content_hash(self) -> str:
        """Digest of name, version and size: TFDS data sets never change within a version."""
        builder = self._builder()
        identity = f"{builder.info.full_name} {builder.info.splits['train'].num_examples}"
        return hashlib.sha256(identity.encode()).hexdigest()

    def _builder(self) -> Any:
        tfds = import_tfds(f"Corpus tfds:{self.name}")
        try:
            builder = tfds.builder(self.name)
        except Exception as error:  # TFDS raises many unrelated types for a wrong name
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"Corpus tfds:{self.name} is not a TensorFlow Dataset known here ({reason}). "
                "Check the name and TFDS_DATA_DIR."
            ) from error
        if not builder.info.splits or "train" not in builder.info.splits:
            raise InputError(
                f"Corpus tfds:{self.name} is not prepared under {builder.data_dir}. "
                f"Run: tfds build {self.name}"
            )
        if "text" not in builder.info.features:
            raise InputError(
                f"Corpus tfds:{self.name} has no feature 'text', only "
                f"{sorted(builder.info.features)}. Export its text to a .jsonl file instead."
            )
        return builder


def open_file(path: Path) -> Source:
    """Opens a file of text in whatever layout it begins with.

    Raises:
        InputError: It holds something else than text; see `recognise`.
    """
    layout = recognise(path)
    if layout is Layout.BLANK_LINES:
        return TextFile(path)
    return JsonLines(path) if layout is Layout.JSON_LINES else MarkedText(path, layout)


def _layout_hash(layout: Layout, digest: str) -> str:
    """The same bytes are other documents in another layout."""
    return hashlib.sha256(f"{layout.value} {digest}".encode()).hexdigest()


def _joined(lines: list[str]) -> str:
    """The text of some lines, in each of which other line ends may be hidden."""
    text = "\n".join(lines)
    return _tidy(text) if any(end in text for end in _LINE_ENDS) else text


def _tidy(text: str) -> str:
    """Strips lines and drops blank ones."""
    return "\n".join(line for raw in text.splitlines() if (line := raw.strip()))


def _parts(document: str) -> Iterator[str]:
    """Cuts an overlong document at white space (anywhere, if it has none)."""
    while len(document) > MAX_DOCUMENT:
        head = document[:MAX_DOCUMENT]
        cut = max(head.rfind("\n"), head.rfind(" ")) + 1 or MAX_DOCUMENT
        yield document[:cut].strip() or document[:cut]
        document = document[cut:].lstrip()
    if document:
        yield document
