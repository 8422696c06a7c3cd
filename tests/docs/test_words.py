"""The guides are easy to read: short sentences, one number a cell, words that are explained."""

import re
import sys
from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS, name_of, prose
from tests.helpers import REPOSITORY

LONGEST = 35  # words
GUIDES = sorted([REPOSITORY / "README.md", *DOCS.glob("*.md"), *(DOCS / "results").glob("*.md")])


def sentences(text: str) -> Iterator[str]:
    """The sentences of a page's paragraphs, list items and cells; headings are none."""
    text = re.sub(r"<!--.*?-->|<[^>]+>", " ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]+`", "code", text)  # one word, whatever is in it
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        cells = block.split("|") if block.lstrip().startswith("|") else [block]
        for cell in cells:
            yield from re.split(r"(?<=[.!?:;])\s+", " ".join(cell.split()))


def words(sentence: str) -> int:
    return len(re.findall(r"[\w'%./-]*\w[\w'%./-]*", sentence))


def test_sentences_are_counted():
    text = "# A title\n\nOne two `a b c`. Three [four five](x.md).\n\n- six\n- seven eight\n"
    text += "\n| a | b c |\n"
    counts = [words(s) for s in sentences(text) if s]
    assert counts == [3, 3, 1, 2, 1, 2]


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_sentences_are_short(page):
    found = [s for s in sentences(prose(page)) if words(s) > LONGEST]
    assert not found, "\n".join(f"{words(s)} words: {s}" for s in found)


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_fences_have_blank_lines_around_them(page):
    """Markdown joins a fence to the paragraph before it otherwise."""
    lines = page.read_text(encoding="utf-8").splitlines()
    inside, wrong = False, []
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            before = lines[number - 2] if number > 1 else ""
            after = lines[number] if number < len(lines) else ""
            beside = after if inside else before
            if beside.strip() and not beside.startswith("<!--"):
                wrong.append(f"{name_of(page)}:{number}")
            inside = not inside
    assert not wrong, wrong


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
