"""Reading SQuAD v1.1 and v2.0: the official JSON files or TensorFlow Datasets.

Source: Rajpurkar et al. 2016 (arXiv 1606.05250) and 2018 (arXiv 1806.03822).
"""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from etd_tf.errors import InputError
from etd_tf.storage.json_files import read_json_object
from etd_tf.text.tfds import load_tfds, parse_source

SQUAD_VERSIONS = ("v1.1", "v2.0")
SQUAD_SPLITS = {"train": "train", "dev": "validation"}
_MAX_BYTES = 1 << 30
_CHARACTERS = "characters"
_ENCODINGS = {"UTF-16 units": ("utf-16-le", 2), "bytes": ("utf-8", 1)}
"""What tools count offsets in besides characters: units of an encoding, and their bytes."""
_TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}


@dataclasses.dataclass(frozen=True)
class SquadQuestion:
    """One question about one paragraph.

    Attributes:
        id: The dataset's own id.
        text: The question.
        context: Position of its paragraph in `SquadDataset.contexts`.
        answers: Accepted answers, each with the character where it starts in the
            paragraph, or -1 where the paragraph does not hold it; empty where the paragraph
            does not answer the question (v2.0).
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

    def for_training(self) -> "SquadDataset":
        """Leaves out questions whose answers have no place: they are not without an answer."""
        return self.take(
            question
            for question in self.questions
            if not question.answers or any(start >= 0 for _, start in question.answers)
        )


def load_squad(version: str, split: str, source: str | Path) -> SquadDataset:
    """Reads one split.

    Args:
        version: One of `SQUAD_VERSIONS`.
        split: `"train"` or `"dev"`.
        source: Directory with `train-v1.1.json` and so on, or `tfds` or `tfds:DATA_DIR`.

    Returns:
        The dataset; for training without questions whose answers have no place.

    Raises:
        InputError: Version, split or file do not exist, or the file is not SQuAD.
    """
    if version not in SQUAD_VERSIONS or split not in SQUAD_SPLITS:
        raise InputError(
            f"There is no SQuAD {version} {split}. Versions: {', '.join(SQUAD_VERSIONS)}; "
            f"splits: {', '.join(SQUAD_SPLITS)}."
        )
    is_tfds, folder = parse_source(source)
    path = Path(folder) / f"{split}-{version}.json"
    if not is_tfds and not path.is_file():
        raise InputError(
            f"{path} does not exist. squad_dir must hold SQuAD's own files "
            f"(train-{version}.json, dev-{version}.json), or be tfds for TensorFlow Datasets."
        )
    dataset = _load_tfds(version, split, folder) if is_tfds else read_squad(path, version)
    if split != "train":
        return dataset
    trained = dataset.for_training()
    if not trained.questions:
        raise InputError(
            f"{source} has no question to train on: no answer of SQuAD {version} {split} is in "
            "its paragraph. Check that the answers belong to these paragraphs."
        )
    return trained


def read_squad(path: str | Path, version: str) -> SquadDataset:
    """Reads one JSON file of the official form.

    Args:
        path: The file.
        version: What it should be. A v1.1 file says "1.1" and a v2.0 file "v2.0"; a file that
            says anything else is judged by what it holds.

    Returns:
        The dataset, its answers checked by `place_answers`.

    Raises:
        InputError: The file cannot be read, is of another version, or an entry lacks a
            field; the message has its place in the file.
    """
    path = Path(path)
    values = read_json_object(path, max_bytes=_MAX_BYTES)
    found = f"v{str(values.get('version')).strip().lower().removeprefix('v')}"
    if found in SQUAD_VERSIONS and found != version:
        name = path.name.replace(version, found)
        renamed = f", with the file named {name}" if name != path.name else ""
        raise InputError(
            f"{path} is SQuAD {found}, expected {version}. Pass task=squad/{found}{renamed}, or "
            f"put a {version} file in its place."
        )
    reader = _Reader(path, version)
    for number, article in enumerate(reader.items(values, "data", "")):
        where = f"data[{number}]"
        for place, paragraph in enumerate(reader.items(article, "paragraphs", where)):
            reader.add_paragraph(paragraph, number, f"{where}.paragraphs[{place}]")
    if not reader.questions:
        raise InputError(f"{path} has no questions. Download the file again.")
    if version != "v1.1" and all(question.answers for question in reader.questions):
        logging.warning(
            "%s: every question has an answer, as in SQuAD v1.1. A model cannot learn from it "
            "when a paragraph has none.",
            path,
        )
    dataset = SquadDataset(
        version, tuple(reader.contexts), tuple(reader.articles), tuple(reader.questions)
    )
    return place_answers(dataset, str(path))


def place_answers(dataset: SquadDataset, source: str) -> SquadDataset:
    """Checks that answers are where they say, and finds those that are not.

    Offsets are read in the unit that fits most answers of the file: characters, or what
    JavaScript (UTF-16) and tools that see bytes count. An answer that is elsewhere is moved to
    the nearest place of exactly its text. One line of the log counts them.

    Args:
        dataset: Questions as they were read.
        source: Their file, for the log.

    Returns:
        The dataset with right places; -1 for an answer that its paragraph does not hold, whose
        text still counts for scores.
    """
    answers = [
        (dataset.contexts[question.context], *answer)
        for question in dataset.questions
        for answer in question.answers
    ]
    if all(_place(*answer, (_CHARACTERS,)) == (*answer[1:], _CHARACTERS) for answer in answers):
        return dataset
    units = (_CHARACTERS, *_ENCODINGS)
    fits = {unit: sum(_place(*answer, (unit,)) is not None for answer in answers) for unit in units}
    units = tuple(sorted(units, key=lambda unit: -fits[unit]))  # characters where there is a draw
    counts: Counter[str] = Counter()
    lost: list[str] = []
    questions = []
    for question in dataset.questions:
        context, placed = dataset.contexts[question.context], []
        for text, start in question.answers:
            found = _place(context, text, start, units) or _nearest(context, text, start)
            counts[found[2]] += 1
            placed.append(found[:2])
        if placed and all(start < 0 for _, start in placed):
            lost.append(question.id)
        questions.append(dataclasses.replace(question, answers=tuple(placed)))
    _tell(source, len(answers), counts, lost)
    return dataset.take(questions)


def _place(
    context: str, text: str, start: int, units: Iterable[str]
) -> tuple[str, int, str] | None:
    """An answer at the character that an offset means in the first unit that fits, and the unit."""
    core = text.strip()
    for unit in units if core and start >= 0 else ():
        place = start
        if unit != _CHARACTERS and not context.isascii():
            encoding, size = _ENCODINGS[unit]
            head = context.encode(encoding, "surrogatepass")[: start * size]
            place = len(head.decode(encoding, "ignore"))
        if context.startswith(text, place):
            return text, place, unit
        place += len(text) - len(text.lstrip())
        if context.startswith(core, place):
            return core, place, unit
    return None


def _nearest(context: str, text: str, start: int) -> tuple[str, int, str]:
    """An answer at the place of its text that is nearest to an offset."""
    core = text.strip()
    places = [match.start() for match in re.finditer(f"(?={re.escape(core)})", context)]
    if not core or not places:
        return text, -1, "nowhere"
    return core, min(places, key=lambda place: abs(place - start)), "moved"


def _tell(source: str, total: int, counts: Counter[str], lost: list[str]) -> None:
    """Logs how many answers were not where they said."""
    said = [f"{counts[unit]} counted in {unit}, converted" for unit in _ENCODINGS if counts[unit]]
    if counts["moved"]:
        said.append(f"{counts['moved']} moved to the nearest place of their text")
    if counts["nowhere"]:
        said.append(f"{counts['nowhere']} not in their paragraph")
    if lost:
        said.append(
            f"{len(lost)} questions are left out of training ({', '.join(lost[:3])}"
            f"{', ...' if len(lost) > 3 else ''})"
        )
    if said:
        logging.warning(
            "%s: of %d answers, some are not where answer_start says: %s.",
            *(source, total, "; ".join(said)),
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
            if not self._truth(entry, "is_impossible", here):
                answers = tuple(
                    (
                        self._field(answer, "text", f"{here}.answers[{rank}]", str),
                        self._field(answer, "answer_start", f"{here}.answers[{rank}]", int),
                    )
                    for rank, answer in enumerate(self.items(entry, "answers", here))
                )
            if not answers and self.version == "v1.1":
                raise InputError(
                    f"{self.path}: {here} has no answer, as only questions of SQuAD v2.0 may. "
                    f"Name the file {self.path.name.replace('v1.1', 'v2.0')} and pass "
                    "task=squad/v2.0, or leave such questions out."
                )
            identity = self._identity(entry, here)
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

    def _identity(self, entry: Mapping[str, Any], where: str) -> str:
        """Reads an id; a number is an id as well."""
        identity = entry.get("id")
        if isinstance(identity, int) and not isinstance(identity, bool):
            return str(identity)
        return str(self._field(entry, "id", where, str))

    def _truth(self, entry: Mapping[str, Any], name: str, where: str) -> bool:
        """Reads a field that may be missing and is true or false, be it as text."""
        value = entry.get(name)
        found = _TRUTHS.get(str(value).strip().lower())
        if found is None:
            raise InputError(f"{self.path}: {where}: {name} is {value!r}; expected true or false.")
        return found

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
    dataset = SquadDataset(
        version,
        tuple(context for _, context in contexts),
        tuple(articles[title] for title, _ in contexts),
        tuple(questions),
    )
    return place_answers(dataset, f"TensorFlow Datasets, SQuAD {version}")
