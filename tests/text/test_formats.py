"""Tests of telling what a corpus file is by its beginning."""

import bz2
import gzip
import json
import lzma
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.text.corpus import open_corpus
from etd_tf.text.formats import Layout, recognise

PROSE = "The cat sat, and the dog ran.\nA second line.\n\nAnother document, with a comma.\n"
DOCUMENTS = ["The cat sat, and the dog ran.\nA second line.", "Another document, with a comma."]


def read(path):
    return [text for source in open_corpus(str(path)).sources for _, text in source.documents()]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_packed_text_is_read_under_any_name(tmp_path, pack):
    (tmp_path / "part").write_bytes(pack(PROSE.encode()))
    assert read(tmp_path / "part") == DOCUMENTS


def test_json_lines_need_no_name(tmp_path):
    lines = [json.dumps({"id": "1", "text": text}) for text in DOCUMENTS]
    (tmp_path / "wiki_00").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert recognise(tmp_path / "wiki_00") is Layout.JSON_LINES
    assert read(tmp_path / "wiki_00") == DOCUMENTS


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        (
            '<doc id="1" url="u" title="T">\nThe cat\n\nsat\n</doc>\n<doc id="2">\nA dog\n</doc>\n',
            Layout.DOC_TAGS,
        ),
        ("The cat\n\nsat<|endoftext|>A dog<|endoftext|>", Layout.END_OF_TEXT),
        (" \n = The cat = \n \n sat \n \n = A dog = \n", Layout.WIKITEXT),
    ],
)
def test_marks_of_documents_are_no_text(tmp_path, text, layout):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert recognise(tmp_path / "a.txt") is layout
    assert read(tmp_path / "a.txt") == ["The cat\nsat", "A dog"]


def test_wikitext_gets_its_numbers_back(tmp_path):
    (tmp_path / "a.txt").write_text(" = A = \n 1 @,@ 000 and 2 @.@ 5 well @-@ known \n", "utf-8")
    assert read(tmp_path / "a.txt") == ["A\n1,000 and 2.5 well-known"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"text,label\nsome words,1\nothers,0\n", r"a table \(CSV\), not plain text\. Write JSON"),
        (b"text,label\ncat,good\ndog,bad\n", r"a table \(CSV\)"),
        (b"quote,author\nto be or not,will\nI think,rene\n", r"a table \(CSV\)"),
        (b'a,b\nx,"y, z"\nu,v\n', r"a table \(CSV\)"),
        (b"word,count\nthe,12\nof,7.5\n", r"a table \(CSV\)"),
        (b"animal,colour\n" + b"cat,red\ndog,blue\n" * 5, r"a table \(CSV\)"),
        (b"text\nThe cat sat\nA dog ran\n", r"a table \(CSV\)"),
        (b'sentence\n"Yes, sir"\nNo\nWell\n', r"a table \(CSV\)"),
        (b"a\tb\nc\td\ne\tf\n", r"a table \(TSV\)"),
        (b"PK\x03\x04rest", "a zip archive .*Unpack it: unzip"),
        (b"\x28\xb5\x2f\xfdrest", "Zstandard.*zstd -d"),
        (b"%PDF-1.7 rest", "a PDF document.*pdftotext"),
        ("Some text.".encode("utf-16"), "UTF-16.*iconv"),
        (bytes(range(256)) * 4, "it is binary"),
        (b"<!DOCTYPE html>\n<p>Text</p>", "not plain text.*trafilatura"),
        (b'[\n {"text": "a"}\n]', "one JSON list.*jq"),
        (b'["The cat sat.", "A dog ran."]\n', "JSON without fields"),
        (b'"The cat sat."\n"A dog ran."\n"They met."\n', "JSON without fields"),
        (b'["a", 1]\n["b", 2]\n', "JSON without fields"),
        (b"<!-- saved -->\n<html><p>Text</p></html>\n", "HTML"),
        (b"| text | label |\n|:---|---|\n| the cat | 1 |\n", r"a table \(Markdown\)"),
        (b"text;label\nthe cat;1\na dog;0\n", r"a table \(CSV\)"),
        (b"text|label\nthe cat|1\na dog|0\n", r"a table \(CSV\)"),
        (b"-DOCSTART- -X- O\n\nEU NNP B-ORG\n", "labelled words"),
        (b"\\documentclass{article}\nText\n", "LaTeX"),
        (b"From a@b Mon Jan 1 00:00:00 2020\nSubject: x\n\nBody\n", "a mailbox"),
        (b"3 2\nthe 0.1 -2e-3\ncat 0.3 0.4\n", "a table of numbers"),
        (b"1 1:0.5 2:0.3\n0 1:0.1 7:2\n1 3:1 4:1\n", "a table of numbers"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"One line\rand another\r", "old Macs"),
    ],
)
def test_what_is_no_prose_is_refused_by_name(tmp_path, content, said):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s)a\.txt is .*{said}"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "text",
    [
        "Well, yes.\nNo, never.\nSo, then.\n",
        "cat,dog\nsun,moon\nred,blue\n",
        "rose,red\nviolet, blue and sweet\nsugar, sweet and white\n",
        "\u5e8a\u524d\u660e\u6708\u5149,\u7591\u662f\u5730\u4e0a\u971c\n\u4e3e\u5934\u671b\u660e\u6708,\u4f4e\u5934\u601d\u6545\u4e61\n\u6625\u7720\u4e0d\u89c9\u6653,\u5904\u5904\u95fb\u557c\u9e1f\n",
        "cat\ndog\nsun\nmoon\n",
        "id\nego\ntext\nword\n",
        "text\nThe cat sat\n",
        "well, yes\n" * 20,
        "[1]\n[2]\n[3]\n",
        '"Well," said the cat.\n"No," said the dog.\n"Yes."\n',
        "In 1999 2000 people came.\nThen 12 13 14.\nAnd 1 2 3 more went.\n",
        "one;two\nthree;four\nfive;six\n",
        "床前,明月\n" * 20,
        "2026-11-28 12:00:01,123 INFO started\n2026-11-28 12:00:02,456 WARN slow\n"
        "2026-11-28 12:00:03,789 INFO ended\n",
        "\tThe cat sat.\n\tA dog ran.\n\tThe end.\n",
        "BZh9 is no archive here.\n",
        "PAR1 is a word.\n",
        "[1] A footnote begins this page.\n",
        "{curly} words begin it.\n",
        "<b>Bold</b text without an end\n",
    ],
)
def test_prose_that_looks_a_little_like_something_else_is_prose(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert read(tmp_path / "a.txt") == ["\n".join(line.strip() for line in text.splitlines())]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_every_line_end_ends_a_line(tmp_path, end):
    (tmp_path / "a.txt").write_bytes(f"The cat{end}sat\non it\n".encode())
    assert read(tmp_path / "a.txt") == ["The cat\nsat\non it"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
