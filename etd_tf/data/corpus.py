"""Raw text from files, TensorFlow Datasets or the standard library, as documents.

A document is text of one or more lines, a paragraph or sentence each; in text files a
blank line ends it, and so does the end of the file. Documents are streamed: memory does
not grow with the corpus. One longer than `MAX_DOCUMENT` characters is handed on in parts.
"""

import abc
import dataclasses
import glob
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from etd_tf.data.lines import decode, read_lines
from etd_tf.errors import InputError
from etd_tf.files import sha256

MAX_DOCUMENT = 1 << 20  # characters; longer than any encyclopedia article
_MAX_JSON_LINE = 32 << 20  # bytes; far more than the longest document
_TFDS, _STDLIB = "tfds:", "stdlib:"


class Source(abc.ABC):
    """One part of a corpus."""

    @abc.abstractmethod
    def documents(self) -> Iterator[str]:
        """Yields documents that are not blank, lines stripped, without blank lines."""

    @abc.abstractmethod
    def content_hash(self) -> str:
        """Digest of the content, independent of where it lies."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Sources in the order in which they are read.

    Attributes:
        sources: At least one source.
        description: What the user asked for, for messages and manifests.
    """

    sources: tuple[Source, ...]
    description: str

    def documents(self) -> Iterator[str]:
        """Yields the documents of all sources.

        Raises:
            InputError: A file cannot be read as the text it should be; names the place.
        """
        for source in self.sources:
            for document in source.documents():
                yield from _parts(document)

    def content_hash(self) -> str:
        """SHA-256 over the sources' content, independent of names and folders."""
        digest = hashlib.sha256()
        for source in self.sources:
            digest.update(source.content_hash().encode())
        return digest.hexdigest()


def open_corpus(corpus: str | Sequence[str]) -> Corpus:
    """Finds the sources of a corpus; reads nothing yet.

    Args:
        corpus: Comma-separated text or a sequence of: a file or glob (text, `.jsonl` with a
            `text` field, either one also `.gz`), `tfds:NAME[/CONFIG][:VERSION]` (split
            `train`, feature `text`), or `stdlib:pydoc` (Python's reference manual).

    Returns:
        The corpus. Files are sorted by name within a glob; one named twice counts once.

    Raises:
        InputError: Nothing was asked for, or no file matches.
    """
    names = corpus.split(",") if isinstance(corpus, str) else list(corpus)
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise InputError(
            "No corpus given. Pass --corpus=FILES, e.g. --corpus='wiki/*.txt' or "
            "--corpus=stdlib:pydoc."
        )
    sources: dict[object, Source] = {}
    for name in names:
        for source in _sources(name):
            sources.setdefault(getattr(source, "path", name), source)
    return Corpus(tuple(sources.values()), ",".join(names))


def _sources(name: str) -> Iterable[Source]:
    if name.startswith(_TFDS):
        return [TfdsSource(name.removeprefix(_TFDS))]
    if name.startswith(_STDLIB):
        if name != "stdlib:pydoc":
            raise InputError(f"Unknown corpus {name!r}; of this kind there is stdlib:pydoc.")
        return [PydocSource()]
    matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
    paths = [Path(match) for match in matches if not Path(match).is_dir()]
    if not paths:
        raise InputError(f"Corpus {name!r}: {_why_no_file(Path(name))}")
    return [JsonLines(path) if _is_json(path) else TextFile(path) for path in paths]


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return f"is a directory. Name the text files in it, e.g. '{path}/*.txt'."
    return (
        f"no file matches (current directory: {Path.cwd()}). Give existing text, .jsonl or .gz "
        "files, a glob in quotes, tfds:NAME or stdlib:pydoc."
    )


def _is_json(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson"))


@dataclasses.dataclass(frozen=True)
class TextFile(Source):
    """Plain UTF-8 text, optionally gzipped."""

    path: Path

    def documents(self) -> Iterator[str]:
        """Yields the runs of lines between blank lines."""
        lines: list[str] = []
        size = 0
        for number, offset, raw in read_lines(self.path, MAX_DOCUMENT):
            line = decode(raw, self.path, number, offset).strip()
            if line:
                lines.append(line)
                size += len(line) + 1
            if lines and (not line or size >= MAX_DOCUMENT):
                yield "\n".join(lines)
                lines, size = [], 0
        if lines:
            yield "\n".join(lines)

    def content_hash(self) -> str:
        """SHA-256 of the file."""
        return _file_hash(self.path)


@dataclasses.dataclass(frozen=True)
class JsonLines(Source):
    """One JSON object a line with a `text` field, optionally gzipped."""

    path: Path

    def documents(self) -> Iterator[str]:
        """Yields the `text` of each line; its blank lines do not end the document."""
        for number, offset, raw in read_lines(self.path, _MAX_JSON_LINE, cut=False):
            line = decode(raw, self.path, number, offset)
            if line.strip() and (document := _tidy(self._text(line, number))):
                yield document

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
        return text

    def content_hash(self) -> str:
        """SHA-256 of the file."""
        return _file_hash(self.path)


@dataclasses.dataclass(frozen=True)
class PydocSource(Source):
    """Python's own reference text, a topic a document; inside every Python."""

    def documents(self) -> Iterator[str]:
        """Yields the topics in alphabetical order."""
        from pydoc_data.topics import topics

        for name in sorted(topics):
            if document := _tidy(topics[name]):
                yield document

    def content_hash(self) -> str:
        """SHA-256 of the text: it differs between Python versions."""
        digest = hashlib.sha256()
        for document in self.documents():
            digest.update(document.encode("utf-8") + b"\0")
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class TfdsSource(Source):
    """The `train` split of a prepared TensorFlow Dataset with a `text` feature.

    Attributes:
        name: `NAME[/CONFIG][:VERSION]`, found under `TFDS_DATA_DIR`.
    """

    name: str

    def documents(self) -> Iterator[str]:
        """Yields the `text` of each example, in the order of the files."""
        builder = self._builder()
        dataset = builder.as_dataset(split="train", shuffle_files=False)
        for example in dataset.as_numpy_iterator():
            if document := _tidy(example["text"].decode("utf-8")):
                yield document

    def content_hash(self) -> str:
        """Digest of name, version and size: TFDS data sets never change within a version."""
        builder = self._builder()
        identity = f"{builder.info.full_name} {builder.info.splits['train'].num_examples}"
        return hashlib.sha256(identity.encode()).hexdigest()

    def _builder(self) -> Any:
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise InputError(
                f"Corpus tfds:{self.name} needs TensorFlow Datasets: "
                "pip install tensorflow-datasets importlib-resources."
            ) from error
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


def _file_hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


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
