"""Tests of reading a corpus in parts: the parts are those of reading it whole."""

import dataclasses
import gzip
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.text import scanning
from etd_tf.text import sources as text_sources
from etd_tf.text.corpus import open_corpus
from etd_tf.text.scanning import ScannedCorpus, SourceScan, scan_source, shares
from etd_tf.text.splitting import split_documents


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Four files with every trap: a byte order mark, long lines, blank records, gzip."""
    monkeypatch.setattr(text_sources, "MAX_DOCUMENT", 40)
    monkeypatch.setattr(scanning, "_MARK_EVERY", 25)
    texts = [f"número {i}\nmore {i % 7}" for i in range(30)]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "\n\n\n".join(texts).encode())
    long = "wörd " * 30 + "\n\n" + "x" * 90 + "\n\nshort\n\n" + "line of text\n" * 9
    (tmp_path / "b.txt").write_text(long, "utf-8")
    items = ["one", "", "two\n\nthree", "y" * 100, *(f"item {i}" for i in range(12))]
    lines = "".join(json.dumps({"text": item}) + "\n" for item in items)
    (tmp_path / "c.jsonl").write_text(lines, "utf-8")
    with gzip.open(tmp_path / "d.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n\n".join(texts[::-1]))
    return [str(tmp_path / name) for name in ("a.txt", "b.txt", "c.jsonl", "d.txt.gz")]


def scan(corpus, fraction, seed):
    """Scans through JSON, as a worker's result travels."""
    scans = [scan_source(source, fraction, seed) for source in corpus.sources]
    texts = [json.dumps(dataclasses.asdict(scan)) for scan in scans]
    found = tuple(SourceScan(**json.loads(text)) for text in texts)
    return ScannedCorpus(corpus.sources, corpus.description, found)


def test_reading_can_start_at_every_mark(names):
    for source in open_corpus([*names, "stdlib:pydoc"]).sources:
        documents = list(source.documents())
        marked = [i for i, (mark, _) in enumerate(documents) if mark]
        assert len(marked) > 2
        for i in marked[:40]:
            assert list(source.documents(documents[i][0])) == documents[i:]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fraction=st.sampled_from([0.0, 0.02, 0.3, 0.9]),
    seed=st.integers(0, 3),
    num_shards=st.integers(1, 9),
)
def test_scans_say_what_the_whole_corpus_says(names, fraction, seed, num_shards):
    corpus = open_corpus(names)
    scanned = scan(corpus, fraction, seed)
    assert scanned.content_hash() == corpus.content_hash()
    whole, parts = (split_documents(text, fraction, seed=seed) for text in (corpus, scanned))
    assert [dataclasses.replace(split, corpus=corpus) for split in parts] == whole
    for expected, split in zip(whole, parts, strict=True):
        count = min(num_shards, split.num_documents)
        wanted = [list(documents) for _, documents in expected.shards(count)]
        assert [list(share.documents()) for share in shares(split, count)] == wanted


def test_examples_of_several_tfds_files_keep_their_order(tmp_path, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    import tensorflow as tf

    tfds.dataset_builders.store_as_tfds_dataset(
        name="many_files",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices({"text": [f"text {i}" for i in range(90)]})
        },
        download_config=tfds.download.DownloadConfig(num_shards=3),
    )
    builder = tfds.builder("many_files", data_dir=tmp_path)
    assert builder.info.splits["train"].num_shards == 3
    monkeypatch.setattr(tfds, "builder", lambda name: builder)
    (source,) = open_corpus("tfds:many_files").sources
    documents = list(source.documents())
    for i in (1, 20, 47, 89):
        assert list(source.documents(documents[i][0])) == documents[i:]


def test_a_share_reads_little_more_than_its_text(names):
    (split,) = split_documents(scan(open_corpus(names[:1]), 0.0, 0), 0.0, seed=0)
    for share in shares(split, 10):
        (stretch,) = share.stretches
        assert share.first - stretch.first <= 3  # marks are 25 characters apart
        assert stretch.stop == share.first + share.num_documents


def test_text_that_changed_is_refused(names):
    (split,) = split_documents(scan(open_corpus(names[2:3]), 0.0, 0), 0.0, seed=0)
    (share,) = shares(split, 1)
    with open(names[2], "w", encoding="utf-8") as file:
        file.write('{"text": "only this"}\n')
    with pytest.raises(InputError, match="Run the command again"):
        list(share.documents())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
