"""Tests of text sources."""

import gzip
import importlib.resources
import importlib.resources.abc
import json
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.text import sources as text_sources
from etd_tf.text.corpus import open_corpus


def documents(*names):
    return list(open_corpus([str(name) for name in names]).documents())


def test_blank_lines_and_files_end_documents(tmp_path):
    (tmp_path / "b.txt").write_text("three\r\n\r\n \t\n\n  four  \nfive", "utf-8")
    (tmp_path / "a.txt").write_text("\ufeffone\ntwo\n\n\n", "utf-8")
    assert documents(tmp_path / "*.txt") == ["one\ntwo", "three", "four\nfive"]


def test_comma_list_globs_and_duplicates(tmp_path):
    for name in ("x1.txt", "x2.txt", "y.text"):
        (tmp_path / name).write_text(name, "utf-8")
    found = open_corpus(f"{tmp_path}/y.text, {tmp_path}/x*.txt,{tmp_path}/x1.txt")
    assert list(found.documents()) == ["y.text", "x1.txt", "x2.txt"]


def test_one_file_under_several_names_counts_once(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus(["a.txt", "./a.txt", "sub/../a.txt", str(tmp_path / "a.txt"), "*.txt"])
    assert list(corpus.documents()) == ["one"]


def test_a_link_to_itself_is_named(tmp_path):
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    with pytest.raises(InputError, match=r"Cannot read .*loop\.txt"):
        list(open_corpus(str(tmp_path / "*.txt")).documents())


def test_gzip_and_json_lines(tmp_path):
    rows = [{"text": "héllo\n\nworld", "id": 1}, {"text": "  "}, {"text": "b"}]
    content = "\n".join(map(json.dumps, rows)).encode() + b"\n\n"
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"c\n\nd", mtime=0))
    (tmp_path / "c.json").write_bytes(content)
    assert documents(tmp_path / "a.jsonl") == ["héllo\nworld", "b"]
    assert documents(tmp_path / "c.json") == ["héllo\nworld", "b"]
    assert documents(tmp_path / "*.gz") == ["héllo\nworld", "b", "c", "d"]


def test_half_surrogate_pairs_become_replacement_characters(tmp_path):
    lines = [r'{"text": "a \ud83d b"}', r'{"text": "\ud83d\ude00 \ude00"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert documents(tmp_path / "a.jsonl") == ["a \ufffd b", "\U0001f600 \ufffd"]


def test_the_home_directory_may_be_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert documents("~/a.txt") == documents("~/*.txt") == ["a b"]


def test_pydoc_is_python_s_reference():
    found = documents("stdlib:pydoc")
    assert len(found) > 50
    assert sum(len(document.split()) for document in found) > 40_000
    assert found == documents("stdlib:pydoc")
    assert any('The "assert" statement' in document for document in found)


def test_tfds_text_feature(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    import tensorflow as tf

    # TFDS 4.9 imports this back-port of the standard library without requiring it.
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)
    for name, feature in (("tiny_text", "text"), ("tiny_other", "body")):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            data_dir=tmp_path,
            features=tfds.features.FeaturesDict({feature: tfds.features.Text()}),
            split_datasets={
                "train": tf.data.Dataset.from_tensor_slices({feature: ["one\n\ntwo", "three"]})
            },
        )
    original = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: original(name, data_dir=tmp_path))
    assert documents("tfds:tiny_text") == ["one\ntwo", "three"]
    first = open_corpus("tfds:tiny_text").content_hash()
    assert first == open_corpus("tfds:tiny_text:1.0.0").content_hash()
    with pytest.raises(InputError, match="Export its text to a"):
        documents("tfds:tiny_other")
    with pytest.raises(InputError, match="Check the name and TFDS_DATA_DIR"):
        documents("tfds:no_such_dataset_anywhere")


def test_overlong_documents_and_lines_come_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(text_sources, "MAX_DOCUMENT", 50)
    words = [f"wört{i}" for i in range(60)]
    (tmp_path / "line.txt").write_text(" ".join(words), "utf-8")
    (tmp_path / "lines.txt").write_text("\n".join(words), "utf-8")
    (tmp_path / "unbroken.txt").write_text("ö" * 333, "utf-8")
    (tmp_path / "json.jsonl").write_text(json.dumps({"text": " ".join(words)}), "utf-8")
    for name in ("line.txt", "lines.txt", "json.jsonl"):
        parts = documents(tmp_path / name)
        assert len(parts) > 5
        assert max(map(len, parts)) <= 57
        assert " ".join(parts).split() == words
    unbroken = "\n".join(documents(tmp_path / "unbroken.txt"))
    assert unbroken.replace("\n", "") == "ö" * 333


def test_content_hash_ignores_names_but_not_content(tmp_path):
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for path, text in zip(paths, ("same", "same", "other"), strict=True):
        path.write_text(text, "utf-8")
    hashes = [open_corpus(str(path)).content_hash() for path in paths]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\nna\xefve\n", r"a\.txt, line 2, byte 7: not UTF-8 .*iconv"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', r"a\.jsonl:2: .*Rename the field"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', r"a\.jsonl:2: .*found \['text'\]"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: .*found list"),
        ("a.jsonl", b"9" * 5000 + b"\n", r"a\.jsonl:1: not valid JSON"),
        (
            "a.jsonl.gz",
            gzip.compress(b" " * (33 << 20), 1, mtime=0),
            r"line 1, is longer than 32 MB",
        ),
        ("a.jsonl", b"plain text\n", r"a\.jsonl:1: not valid JSON"),
        ("a.txt.gz", b"not gzip", r"a\.txt\.gz is damaged or cut short"),
        ("a.txt.gz", gzip.compress(b"hello " * 99, mtime=0)[:-9], "Fetch or compress it again"),
    ],
)
def test_bad_files_are_named_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        documents(tmp_path / name)


def test_refuses_what_is_no_corpus(tmp_path):
    with pytest.raises(InputError, match="No corpus given"):
        open_corpus(" , ")
    with pytest.raises(InputError, match="no file matches"):
        open_corpus(str(tmp_path / "*.txt"))
    with pytest.raises(InputError, match=r"is a directory\. Name the text files in it"):
        open_corpus(str(tmp_path))
    with pytest.raises(InputError, match="there is stdlib:pydoc"):
        open_corpus("stdlib:json")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
