"""Rows of CSV, TSV and JSON lines, with the line that each begins on."""

import csv
import gzip
import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.tasks.tables import read_table

COLUMNS = ("text", "label")


def read(path, content, columns=COLUMNS):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [tuple(row.cells[name] for name in columns) for row in read_table(path, columns)]


@pytest.mark.parametrize(
    "content",
    [
        "text,label\na b,1\n\nc d,2\n",
        "\ufefftext,label\r\na b,1\r\nc d,2",
        "label\ttext\n1\ta b\n2\tc d\n",
        "text;label\na b;1\nc d;2\n",
        '"text", label\n"a b",1\n"c d",2\n',
        'id,text,label,"other, one"\n7,a b,1,x\n8,c d,2,y\n',
        '{"text": "a b", "label": "1"}\n{"label": "2", "text": "c d", "more": []}\n',
    ],
)
def test_the_form_is_told_by_the_content(tmp_path, content):
    assert read(tmp_path / "data", content) == [("a b", "1"), ("c d", "2")]
    packed = gzip.compress(content.encode())
    assert read(tmp_path / "data.csv.gz", packed) == [("a b", "1"), ("c d", "2")]


def test_cells_in_quotes_hold_anything(tmp_path):
    content = 'text,label\n"two\nlines, and ""quotes""",1\nx,2\n'
    assert read(tmp_path / "data", content) == [('two\nlines, and "quotes"', "1"), ("x", "2")]
    rows = read_table(tmp_path / "data", COLUMNS)
    assert [row.where.rpartition(" ")[2] for row in rows] == ["2", "4"]


@pytest.mark.parametrize(
    "lines",
    [
        ['"Great" film\t1', "so so\t0"],  # no cell in quotes
        ['"it begins\t1', 'and ends"\t0'],  # one cell over two lines would have one cell less
        ['"a\t1', "b\t0", 'c"\t1'],
    ],
)
def test_quotes_of_files_with_tabs_may_be_ordinary_characters(tmp_path, lines):
    content = "text\tlabel\n" + "\n".join(lines) + "\n"
    assert read(tmp_path / "data", content) == [tuple(line.split("\t")) for line in lines]


def test_cells_of_files_with_tabs_may_be_in_quotes(tmp_path):
    content = 'text\tlabel\n"a\ttab\tand\na line"\t1\nb\t0\n'
    assert read(tmp_path / "data", content) == [("a\ttab\tand\na line", "1"), ("b", "0")]


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([",", ";"]),
)
def test_what_python_writes_is_read(tmp_path_factory, rows, delimiter):
    rows = [[f"a{text}", f"b{label}"] for text, label in rows]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([COLUMNS, *rows])
    path = tmp_path_factory.mktemp("table") / "data"
    assert read(path, text.getvalue()) == [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,class\na,1\n", r"line 1: no column label; found text, class"),
        ("text,label\n", "has no rows"),
        ('[{"text": "a", "label": 1}]\n', "is one JSON list. Write an object a line: jq"),
        ('{\n "text": "a",\n "label": 1\n}\n', "JSON over several lines.*jq -c"),
        ("| text | label |\n|---|---|\n| a | 1 |\n", r"a table \(Markdown\)"),
        ("text,text,label\na,b,1\n", "line 1: column text is named twice"),
        ("text,label\na,1\nb,c,2\n", r"line 3: 3 cells, expected 2 \(text, label\)"),
        ("text,label\n\n\na\n", "line 4: 1 cells"),
        ('text,label\n"a,1\nb,2\n', "line 2: unexpected end of data"),
        ('text,label\na,1\n"b" c,2\n', "line 3: ',' expected after '\"'"),
        ('{"text": "a", "label": 1}\n{"text": "a"}\n', "line 2: no column label; found text"),
        ('{"text": "a", "label": 1}\n{"text": \n', "line 2: not JSON"),
        ('{"text": "a", "label": 1}\n[1]\n', "line 2: expected a JSON object"),
        (b"text,label\na,1\ncaf\xe9,2\n", "line 3, byte 18: not UTF-8"),
        (b"PK\x03\x04\0\0", "it is a zip archive"),
        ("text,label\n" + "x" * 200_000 + ",1\n", "line 2: field larger"),
    ],
)
def test_other_files_are_refused_by_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / "data", content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        read_table(tmp_path / "nowhere.csv", COLUMNS)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
