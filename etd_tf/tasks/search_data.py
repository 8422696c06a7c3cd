"""Queries, documents and which documents answer which query; read from BEIR's files or SQuAD.

Source: Thakur et al. 2021 (arXiv 2104.08663) for the files.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.text_files import text_lines
from etd_tf.tasks.squad_data import SquadDataset

CORPUS, QUERIES, JUDGEMENTS = "corpus.jsonl", "queries.jsonl", "qrels"
_COLUMNS = ("query-id", "corpus-id", "score")


@dataclasses.dataclass(frozen=True)
class SearchData:
    """What is searched for in what.

    Attributes:
        queries: Texts.
        documents: Texts.
        relevant: For each query the grades, above 0, of its documents by position.
        left_out: Position of the document that is a query itself, by query.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: tuple[Mapping[int, int], ...]
    left_out: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def fingerprint(self) -> str:
        """SHA-256 of everything."""
        digest = hashlib.sha256()
        for row in (*self.queries, *self.documents, *self.relevant, self.left_out):
            digest.update(json.dumps(row).encode() + b"\n")
        return digest.hexdigest()


def read_beir(folder: Path, split: str) -> SearchData:
    """Reads BEIR's layout; queries without a relevant document in the split are left out.

    Args:
        folder: Has `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`; the first two may
            be packed, with `.gz` behind their names.
        split: E.g. `"test"`.

    Raises:
        InputError: A file is missing, or a row cannot be read; the message has file and line.
    """
    judgements = folder / JUDGEMENTS / f"{split}.tsv"
    if not judgements.is_file():
        found = sorted(path.stem for path in (folder / JUDGEMENTS).glob("*.tsv"))
        raise InputError(
            f"{judgements} does not exist. retrieval_dir must hold BEIR's layout ({CORPUS}, "
            f"{QUERIES}, {JUDGEMENTS}/SPLIT.tsv); retrieval_split is one of "
            f"{', '.join(found) or 'those that are there: none'}."
        )
    documents = _read_texts(_packed_or_plain(folder / CORPUS))
    queries = _read_texts(_packed_or_plain(folder / QUERIES))
    place = {identity: index for index, identity in enumerate(documents)}
    grades: dict[str, dict[int, int]] = {}
    for where, query, document, grade in _read_judgements(judgements):
        for kind, identity, known in (("query", query, queries), ("document", document, place)):
            if identity not in known:
                raise InputError(f"{where}: there is no {kind} {identity!r}.")
        if grade > 0:
            grades.setdefault(query, {})[place[document]] = grade
    if not grades:
        raise InputError(f"{judgements} names no relevant document. Take another retrieval_split.")
    chosen = [identity for identity in queries if identity in grades]
    return SearchData(
        queries=tuple(queries[identity] for identity in chosen),
        documents=tuple(documents.values()),
        relevant=tuple(grades[identity] for identity in chosen),
        left_out={row: place[name] for row, name in enumerate(chosen) if name in place},
    )


def search_in_squad(dataset: SquadDataset) -> SearchData:
    """Makes a search of SQuAD: each question looks for its paragraph among all different ones."""
    place: dict[str, int] = {}
    for context in dataset.contexts:
        place.setdefault(context, len(place))
    return SearchData(
        queries=tuple(question.text for question in dataset.questions),
        documents=tuple(place),
        relevant=tuple({place[dataset.contexts[one.context]]: 1} for one in dataset.questions),
    )


def _packed_or_plain(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.exists() else path


def _read_texts(path: Path) -> dict[str, str]:
    """Texts by id: title and text of each line."""
    found: dict[str, str] = {}
    for where, line in _lines(path):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON ({error}). Expected an object a line.") from error
        identity, text = _field(values, "_id", where), _field(values, "text", where)
        if identity in found:
            raise InputError(f"{where}: _id {identity!r} occurs twice.")
        title = values.get("title") or ""
        found[identity] = f"{title} {text}".strip() if isinstance(title, str) else text
    if not found:
        raise InputError(f"{path} has no texts. Download the file again.")
    return found


def _field(values: Any, name: str, where: str) -> str:
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, str):
        raise InputError(f'{where}: no text {name}. Expected {{"_id": "...", "text": "..."}}.')
    return value


def _read_judgements(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """File and line, query, document and grade of each row."""
    for number, (where, line) in enumerate(_lines(path)):
        fields = line.split("\t")
        if number == 0 and not fields[-1].lstrip("-").isdigit():
            continue  # names of the columns
        if len(fields) != len(_COLUMNS) or not fields[2].lstrip("-").isdigit():
            raise InputError(
                f"{where}: expected {', '.join(_COLUMNS)} with tabs between and a whole number "
                f"at the end, received {line[:80]!r}."
            )
        yield where, fields[0], fields[1], int(fields[2])


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """File and line, and text, of each line that is not blank."""
    for number, line in text_lines(path):
        if line.strip():
            yield f"{path}, line {number}", line
