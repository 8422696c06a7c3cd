"""Reading SQuAD v1.1 and v2.0: the official JSON files or TensorFlow Datasets.

Source: Rajpurkar et al. 2016 (arXiv 1606.05250) and 2018 (arXiv 1806.03822).
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.json_files import read_json_object
from etd_tf.text.tfds import load_tfds, parse_source

SQUAD_VERSIONS = ("v1.1", "v2.0")
SQUAD_SPLITS = {"train": "train", "dev": "validation"}
_MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class SquadQuestion:
    """One question about one paragraph.

    Attributes:
        id: The dataset's own id.
        text: The question.
        context: Position of its paragraph in `SquadDataset.contexts`.
        answers: Accepted answers, each with the character where it starts in the
            paragraph; empty where the paragraph does not answer the question (v2.0).
    """

    id: str
    text: str
    context: int
    answers: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class SquadDataset:
    """A file in memory.

    Attributes:
        version: `"v1.1"` or `"v2.0"`.
        contexts: Paragraphs.
        articles: Number of the article of each paragraph.
        questions: Questions in file order.
    """

    version: str
    contexts: tuple[str, ...]
    articles: tuple[int, ...]
    questions: tuple[SquadQuestion, ...]

    def fingerprint(self) -> str:
        """SHA-256 of paragraphs, questions and answers."""
        questions = [dataclasses.astuple(question) for question in self.questions]
        content = (self.version, self.contexts, self.articles, questions)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def take(self, questions: Iterable[SquadQuestion]) -> "SquadDataset":
        """Returns the dataset with some of its questions only."""
        return dataclasses.replace(self, questions=tuple(questions))


def load_squad(version: str, split: str, source: str | Path) -> SquadDataset:
    """Reads one split.

    Args:
        version: One of `SQUAD_VERSIONS`.
        split: `"train"` or `"dev"`.
        source: Directory with `train-v1.1.json` and so on, or `tfds` or `tfds:DATA_DIR`.

    Returns:
        The dataset.

    Raises:
        InputError: Version, split or file do not exist, or the file is not SQuAD.
    """
    if version not in SQUAD_VERSIONS or split not in SQUAD_SPLITS:
        raise InputError(
            f"There is no SQuAD {version} {split}. Versions: {', '.join(SQUAD_VERSIONS)}; "
            f"splits: {', '.join(SQUAD_SPLITS)}."
        )
    is_tfds, folder = parse_source(source)
    if is_tfds:
        return _load_tfds(version, split, folder)
    path = Path(folder) / f"{split}-{version}.json"
    if not path.is_file():
        raise InputError(
            f"{path} does not exist. --squad_dir must hold SQuAD's own files "
            f"(train-{version}.json, dev-{version}.json), or be tfds for TensorFlow Datasets."
        )
    return read_squad(path, version)


def read_squad(path: str | Path, version: str) -> SquadDataset:
    """Reads one official JSON file.

    Args:
        path: The file.
        version: What it should be. A v1.1 file says "1.1" and a v2.0 file "v2.0".

    Returns:
        The dataset.

    Raises:
        InputError: The file cannot be read, is of another version, or an entry lacks a
            field; the message has its place in the file.
    """
    path = Path(path)
    values = read_json_object(path, max_bytes=_MAX_BYTES)
    found = f"v{str(values.get('version', version)).removeprefix('v')}"
    if found != version:
        raise InputError(f"{path} is SQuAD {found}, expected {version}. Pass --task=squad/{found}.")
    reader = _Reader(path, version)
    for number, article in enumerate(reader.items(values, "data", "")):
        where = f"data[{number}]"
        for place, paragraph in enumerate(reader.items(article, "paragraphs", where)):
            reader.add_paragraph(paragraph, number, f"{where}.paragraphs[{place}]")
    if not reader.questions:
        raise InputError(f"{path} has no questions. Download the file again.")
    return SquadDataset(
        version, tuple(reader.contexts), tuple(reader.articles), tuple(reader.questions)
    )


class _Reader:
    """Walks the JSON tree, checking every field it takes."""

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.version = path, version
        self.contexts: list[str] = []
        self.articles: list[int] = []
        self.questions: list[SquadQuestion] = []
        self._ids: set[str] = set()

    def add_paragraph(self, paragraph: Any, article: int, where: str) -> None:
        """Reads a paragraph and its questions."""
        context = self._field(paragraph, "context", where, str)
        for place, entry in enumerate(self.items(paragraph, "qas", where)):
            here = f"{where}.qas[{place}]"
            answers: tuple[tuple[str, int], ...] = ()
            if not entry.get("is_impossible", False):
                answers = tuple(
                    self._answer(answer, context, f"{here}.answers[{rank}]")
                    for rank, answer in enumerate(self.items(entry, "answers", here))
                )
            if not answers and self.version == "v1.1":
                raise InputError(
                    f"{self.path}: {here} has no answer, as only questions of SQuAD v2.0 may."
                )
            identity = self._field(entry, "id", here, str)
            if identity in self._ids:
                raise InputError(f"{self.path}: {here}: id {identity!r} occurs twice.")
            self._ids.add(identity)
            text = self._field(entry, "question", here, str)
            self.questions.append(SquadQuestion(identity, text, len(self.contexts), answers))
        self.contexts.append(context)
        self.articles.append(article)

    def items(self, values: Any, name: str, where: str) -> list[dict[str, Any]]:
        """Returns a field that must be a list of objects."""
        entries = self._field(values, name, where, list)
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise InputError(f"{self.path}: {where}.{name}[{place}] is not a JSON object.")
        return entries

    def _answer(self, answer: Mapping[str, Any], context: str, where: str) -> tuple[str, int]:
        text = self._field(answer, "text", where, str)
        start = self._field(answer, "answer_start", where, int)
        if not 0 <= start <= len(context):
            raise InputError(
                f"{self.path}: {where}: answer_start {start} is outside the paragraph, which has "
                f"{len(context)} characters."
            )
        return text, start

    def _field(self, values: Any, name: str, where: str, kind: type) -> Any:
        value = values.get(name) if isinstance(values, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(
                f"{self.path}: {where or 'the file'} has no {name} of type {kind.__name__}. "
                "Expected the official SQuAD JSON."
            )
        return value


def _load_tfds(version: str, split: str, data_dir: str) -> SquadDataset:
    name = f"squad/{version}"
    rows, _ = load_tfds(name, SQUAD_SPLITS[split], data_dir, flag="squad_dir", files="JSON")
    return squad_from_tfds(rows, version)


def squad_from_tfds(rows: Iterable[Mapping[str, Any]], version: str) -> SquadDataset:
    """Converts rows of TensorFlow Datasets.

    Args:
        rows: Dictionaries of NumPy values: `id`, `title`, `context`, `question` as UTF-8
            bytes, `answers` with `text` and `answer_start`, v2.0 also `is_impossible`.
        version: One of `SQUAD_VERSIONS`.

    Returns:
        The dataset; equal paragraphs of an article are stored once.
    """
    contexts: dict[tuple[str, str], int] = {}
    articles: dict[str, int] = {}
    questions = []
    for row in rows:
        title, context = row["title"].decode("utf-8"), row["context"].decode("utf-8")
        articles.setdefault(title, len(articles))
        place = contexts.setdefault((title, context), len(contexts))
        found = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        answers = tuple((text.decode("utf-8"), int(start)) for text, start in found)
        impossible = bool(row.get("is_impossible", False))
        questions.append(
            SquadQuestion(
                row["id"].decode("utf-8"),
                row["question"].decode("utf-8"),
                place,
                () if impossible else answers,
            )
        )
    return SquadDataset(
        version,
        tuple(context for _, context in contexts),
        tuple(articles[title] for title, _ in contexts),
        tuple(questions),
    )
