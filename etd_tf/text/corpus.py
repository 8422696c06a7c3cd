"""Raw text from files, TensorFlow Datasets or the standard library, as documents.

A document is text of one or more lines, a paragraph or sentence each; in text files a
blank line ends it, and so does the end of the file. Documents are streamed: memory does
not grow with the corpus. One longer than `MAX_DOCUMENT` characters is handed on in parts.
"""

import dataclasses
import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.text.sources import PydocSource, Source, TfdsSource, open_file

_TFDS, _STDLIB = "tfds:", "stdlib:"


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
            for _, document in source.documents():
                yield document

    def check(self) -> None:
        """Reads the first document of every source.

        Raises:
            InputError: One cannot be read as the text it should be, or there is none.
        """
        found = [next(source.documents(), None) for source in self.sources]
        if not any(found):
            raise InputError(f"Corpus {self.description} holds no text. Name files that do.")

    def content_hash(self) -> str:
        """SHA-256 over the sources' content, independent of names and folders."""
        return joint_hash(source.content_hash() for source in self.sources)


def joint_hash(hashes: Iterable[str]) -> str:
    """Hash of a corpus from those of its sources, in order."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def open_corpus(corpus: str | Sequence[str]) -> Corpus:
    """Finds the sources of a corpus; reads the beginning of each file, which tells its format.

    Args:
        corpus: Comma-separated text or a sequence of: a file or glob (text, or JSON lines
            with a `text` field, also packed by gzip, bzip2 or xz; see `recognise`),
            `tfds:NAME[/CONFIG][:VERSION]` (split `train`, feature `text`), or `stdlib:pydoc`
            (Python's reference manual).

    Returns:
        The corpus. Files are sorted by name within a glob; one under several
        names counts once.

    Raises:
        InputError: Nothing was asked for, no file matches, or one holds something else.
    """
    names = corpus.split(",") if isinstance(corpus, str) else list(corpus)
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise InputError(
            "No corpus given. Pass corpus=FILES, e.g. corpus='wiki/*.txt' or corpus=stdlib:pydoc."
        )
    sources: dict[object, Source] = {}
    for name in names:
        for source in _sources(name):
            path = getattr(source, "path", None)
            # Not Path.resolve(), which raises on a link to itself: reading the file says so better.
            sources.setdefault(name if path is None else os.path.realpath(path), source)
    return Corpus(tuple(sources.values()), ",".join(names))


def _sources(name: str) -> Iterable[Source]:
    if name.startswith(_TFDS):
        return [TfdsSource(name.removeprefix(_TFDS))]
    if name.startswith(_STDLIB):
        if name != "stdlib:pydoc":
            raise InputError(f"Unknown corpus {name!r}; of this kind there is stdlib:pydoc.")
        return [PydocSource()]
    name = os.path.expanduser(name)
    matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
    paths = [Path(match) for match in matches if not Path(match).is_dir()]
    if not paths:
        raise InputError(f"Corpus {name!r}: {_why_no_file(Path(name))}")
    return [open_file(path) for path in paths]


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return f"is a directory. Name the text files in it, e.g. '{path}/*.txt'."
    return (
        f"no file matches (current directory: {Path.cwd()}). Give existing text, .jsonl or .gz "
        "files, a glob in quotes, tfds:NAME or stdlib:pydoc."
    )
