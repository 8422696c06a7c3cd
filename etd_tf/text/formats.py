"""How the text of a file is laid out, told by its beginning rather than by its name."""

import csv
import enum
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.heads import HEAD, check_is_text, read_head

JSON_NAMES = (".jsonl", ".ndjson", ".json")
_TABLE_NAMES = (".csv", ".tsv")
_TABLE_ROWS = 3  # that agree make a table
_WORD_ROWS = 10  # that agree make a table of single words
# Names of columns without which hardly a table of texts is made; lines of words have none.
_COLUMNS = {
    *("text", "label", "labels", "sentence", "sentence1", "sentence2", "sentiment", "title", "id"),
    *("content", "body", "review", "comment", "tweet", "question", "answer", "category", "url"),
    *("premise", "hypothesis", "document", "message", "abstract", "description", "rating", "score"),
}
_TO_JSON = "Write JSON lines with a field 'text', e.g. pandas.{read}.to_json(..., lines=True)"


class Layout(enum.Enum):
    """How documents are told apart; the value is part of the content's hash."""

    BLANK_LINES = "blank lines"
    JSON_LINES = "json lines"
    DOC_TAGS = "doc tags"
    END_OF_TEXT = "end of text"
    WIKITEXT = "wikitext"


# Text with a layout of its own, that is read as text where it says so.
_LAYOUTS = (
    (re.compile(r"<doc(\s[^\n]*)?>\s*\n"), Layout.DOC_TAGS),  # WikiExtractor's
    (re.compile(r" = [^=\n]+ = \r?\n"), Layout.WIKITEXT),
)
_END_OF_TEXT = "<|endoftext|>"
_END_OF_TEXT_LINE = re.compile(r"^<\|endoftext\|>|<\|endoftext\|>\s*$", re.MULTILINE)
# Text that is no prose: how it begins, what it is, and what to do.
_NO_PROSE = (
    (r"<!doctype html|<html\b", "HTML", "Take the text out of it, e.g. with trafilatura"),
    (r"<mediawiki\b", "a dump of a wiki", "Take the text out of it: wikiextractor --json FILE"),
    (r"<\?xml\b|<!doctype\b", "XML", "Take the text out of it"),
    (r"WARC/\d", "a web archive (WARC)", "Take the text out of it, e.g. with warcio"),
    (r"WEBVTT\b|\d+\s*\n\d\d:\d\d:\d\d[,.]\d+ --> ", "subtitles", "Take the text out of them"),
    (
        r"\[\s*\{\s*(\"|\})",
        "one JSON list",
        "Write an object a line: jq -c '.[]' FILE > FILE.jsonl",
    ),
    (r"\{\s*\n\s*\"[^\"\n]*\"\s*:", "JSON over several lines", "Run: jq -c . FILE > FILE.jsonl"),
    (r"%%MatrixMarket|@relation\b", "a table of numbers", "Give the text itself"),
    (r"-DOCSTART-\s", "labelled words (CoNLL)", "Join the words of each sentence"),
    (r"\\documentclass\b", "LaTeX", "Take the text out of it, e.g. with detex"),
    (r"From \S+ [^\n]*\d{4}\s*\n[\w-]+: ", "a mailbox", "Take the text out of it"),
    (r"\|[^\n]*\|\s*\n\|?[\s:|-]*---[\s:|-]*\n\|", "a table (Markdown)", "Give the text itself"),
)
_REFUSED = tuple(
    (re.compile(begin, re.IGNORECASE), kind, advice) for begin, kind, advice in _NO_PROSE
)
_COMMENTS = re.compile(r"\A\s*(?:<!--.*?-->\s*)*", re.DOTALL)
_NUMBER = r"[-+]?\d*\.?\d+(?:e[-+]?\d+)?"
_NUMBERS = re.compile(rf"\S+(?:\s+(?:\d+:)?{_NUMBER}){{2,}}", re.IGNORECASE)
_FIRST_TAG = re.compile(r"<([A-Za-z][\w.:-]*)(\s[^<>]*)?>")


def recognise(path: Path) -> Layout:
    """Tells the layout of a file by its first bytes.

    Args:
        path: A text file, which may be packed by gzip, bzip2 or xz.

    Returns:
        How its documents are told apart.

    Raises:
        InputError: It cannot be read, or it is something else than text: binary, a table,
            mark-up. Names what it is and how to make text of it.
    """
    head = read_head(path)
    check_is_text(path, head)
    text = head.decode("utf-8", "replace").removeprefix("\ufeff")
    whole = len(head) < HEAD
    begin = re.sub(r"\A\s*\n", "", text)  # a blank before the first word tells wikitext
    name = path.name.lower()
    for suffix in (".gz", ".bz2", ".xz"):
        name = name.removesuffix(suffix)
    refused = _no_prose(begin, name, whole=whole)
    if refused:
        kind, advice = refused
        raise InputError(f"{path} is {kind}, not plain text. {advice.replace('FILE', str(path))}.")
    if name.endswith(JSON_NAMES) or _is_json_line(begin, whole=whole):
        return Layout.JSON_LINES
    for pattern, layout in _LAYOUTS:
        if pattern.match(begin):
            return layout
    marks = text.count(_END_OF_TEXT)
    if marks > 1 or (marks and _END_OF_TEXT_LINE.search(text)):
        return Layout.END_OF_TEXT
    return Layout.BLANK_LINES


def _no_prose(begin: str, name: str, *, whole: bool) -> Sequence[str] | None:
    """What the text is, and what to do; None for text that can be read."""
    if found := no_lines(begin):
        return found
    stripped = _COMMENTS.sub("", begin)
    tag = _FIRST_TAG.match(stripped)
    if tag and tag[1] != "doc" and f"</{tag[1]}>" in begin:
        return f"mark-up (it begins with {tag[0][:60]})", "Take the text out of it"
    return _table(begin, name, whole=whole)


def no_lines(text: str) -> tuple[str, str] | None:
    """What a text is whose lines are neither prose nor rows, and what to do; None for others."""
    stripped = _COMMENTS.sub("", text[:HEAD])
    for pattern, kind, advice in _REFUSED:
        if pattern.match(stripped):
            return kind, advice
    return None


def _table(begin: str, name: str, *, whole: bool) -> Sequence[str] | None:
    """Whether lines are rows of cells: all with as many tabs, or CSV below a header."""
    lines = [line for line in begin.split("\n") if line.strip()]
    if not whole:
        lines = lines[:-1]
    if kind := _other_rows(lines):
        return kind
    tabs = {line.strip().count("\t") for line in lines}  # one before a paragraph indents it
    tsv = len(lines) >= _TABLE_ROWS and len(tabs) == 1 and 0 not in tabs
    if tsv or name.endswith(".tsv"):
        return "a table (TSV)", _TO_JSON.format(read="read_table('FILE')")
    if name.endswith(_TABLE_NAMES) or any(_is_csv(lines, sign) for sign in ",;|"):
        return "a table (CSV)", _TO_JSON.format(read="read_csv('FILE')")
    return None


def _other_rows(lines: Sequence[str]) -> tuple[str, str] | None:
    """What lines are that are no cells and no prose: numbers, or JSON that is no object."""
    some = lines[1:50]  # above numbers there may be a header
    if len(lines) >= _TABLE_ROWS and all(_NUMBERS.fullmatch(line.strip()) for line in some):
        return "a table of numbers", "Give the text itself"
    values = [_json(line) for line in lines[:50]]
    strings = len(lines) >= _TABLE_ROWS and all(isinstance(value, str) for value in values)
    lists = [isinstance(value, list) and any(isinstance(v, str) for v in value) for value in values]
    if strings or (lists and all(lists)):
        return "JSON without fields", 'Write an object a line: {"text": "..."}'
    return None


def _json(line: str) -> Any:
    if not line.startswith(('"', "[")):
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_csv(lines: Sequence[str], sign: str) -> bool:
    """Whether names without blanks stand above rows with as many cells, and a cell is no word.

    Verses and lists of words may have a comma in every line, too. So a column has to be of
    numbers or of whole sentences, or a cell in quotes, or a column of a name that tables have;
    or many lines agree that a comma has no blank behind it. The same of other signs.
    """
    header = lines[0].strip().split(sign) if len(lines) >= _TABLE_ROWS else []
    if len(header) == 1:
        return header[0] in _COLUMNS and _is_sentences(lines[1:50])
    if not header or not all(re.fullmatch(r'"?\w*"?', cell) for cell in header):
        return False
    try:
        rows = list(csv.reader(lines[:50], strict=True, delimiter=sign))
    except csv.Error:  # also where the last cell goes on behind the head
        rows = list(csv.reader(lines[:50], delimiter=sign))[:-1]
    if len(rows) < 2 or {len(row) for row in rows} != {len(header)}:
        return False
    names = {cell.strip('"').lower() for cell in header}
    quoted = any(re.search(rf'(^|[{sign}])"', line) for line in lines[1:50])
    words = len(rows) >= _WORD_ROWS and all(re.fullmatch(r"[!-~]+", line) for line in lines[:50])
    columns = zip(*rows[1:], strict=True)
    return quoted or words or bool(names & _COLUMNS) or any(map(_is_column, columns))


def _is_sentences(lines: Sequence[str]) -> bool:
    """Whether all lines are several words, or some in quotes: cells below a single name."""
    cells = [line.strip() for line in lines]
    return all(" " in cell for cell in cells) or any(re.fullmatch('".*"', cell) for cell in cells)


def _is_column(cells: Sequence[str]) -> bool:
    """Whether cells are all numbers, or all several words right behind a comma."""
    filled = [cell for cell in cells if cell]
    numbers = [re.fullmatch(_NUMBER, cell, re.IGNORECASE) for cell in filled]
    words = [" " in cell.strip() and not cell.startswith(" ") for cell in filled]
    return bool(filled) and (all(numbers) or all(words))


def _is_json_line(begin: str, *, whole: bool) -> bool:
    """Whether the first line is a JSON object, or the beginning of a long one."""
    line, end, _ = begin.lstrip().partition("\n")
    if not line.startswith("{"):
        return False
    if not (end or whole):
        return re.match(r'\{\s*"(?:[^"\\]|\\.)*"\s*:', line) is not None
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
