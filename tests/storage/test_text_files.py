"""Tests of `etd_tf.storage.text_files`."""

import bz2
import codecs
import gzip
import lzma
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.storage.text_files import read_texts, text_lines
from etd_tf.tasks.glue import GLUE_TASKS
from etd_tf.tasks.glue_data import read_glue_file
from etd_tf.tasks.search_data import read_beir
from etd_tf.tasks.tables import read_table

TEXT = "sentence\tl\u00e0bel\ncat\t1\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_lines_are_those_of_the_text_in_any_packing(tmp_path, pack, mark):
    (tmp_path / "a").write_bytes(pack(mark + "one\r\n\ntwo\r and \u2028 two\nth\u00e9".encode()))
    assert list(text_lines(tmp_path / "a")) == [
        (1, "one"),
        (2, ""),
        (3, "two\r and \u2028 two"),
        (4, "th\u00e9"),
    ]


def _tables(path):
    read_table(path, ("sentence", "label"))


def _glue(path):
    read_glue_file(GLUE_TASKS["sst2"], "dev", path)


def _beir(path):
    (path.parent / "qrels").mkdir()
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (path.parent / name).write_bytes(path.read_bytes())
    read_beir(path.parent, "test")


@pytest.mark.parametrize("reader", [_tables, _glue, _beir, read_texts])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16"), "UTF-16.*iconv -f UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16LE.*iconv"),
        (TEXT.encode("cp1252"), r"line 1, byte 10: not UTF-8 .*iconv -f ENCODING"),
        (TEXT.replace("\n", "\r").encode(), "old Macs.*tr "),
        (b"PAR1" + bytes(range(256)), "Parquet"),
        (b"\x28\xb5\x2f\xfdrest", "Zstandard"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-9], "damaged or cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ],
)
def test_every_reader_of_texts_says_what_a_file_is_that_it_cannot_read(
    tmp_path, reader, content, message
):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=message):
        reader(tmp_path / "a")


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=f"{path} does not exist, or is no file"):
            read_texts(path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
