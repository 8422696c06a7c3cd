"""Tests of the plan: what is held out, what goes into which file, and reading it in parts."""

import dataclasses
import gzip
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.text import plan
from etd_tf.text import sources as text_sources
from etd_tf.text.corpus import open_corpus
from etd_tf.text.plan import CorpusScan, Reader, SourceScan, scan_source


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Four files with every trap: a byte order mark, long lines, blank records, gzip."""
    monkeypatch.setattr(text_sources, "MAX_DOCUMENT", 40)
    monkeypatch.setattr(plan, "_MARK_EVERY", 25)
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


def scan(corpus, fraction=0.0, seed=0):
    """Scans through JSON, as a worker's result travels."""
    found = CorpusScan(corpus, fraction, seed)
    for source in corpus.sources:
        text = json.dumps(dataclasses.asdict(scan_source(source, fraction, seed)))
        found.add(SourceScan(**json.loads(text)))
    return found


def documents_of(split):
    (share,) = split.shares(1)
    return list(share.documents())


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
    skipped=st.sets(st.integers(0, 8)),
)
def test_shares_are_what_the_whole_corpus_says(names, fraction, seed, num_shards, skipped):
    corpus = open_corpus(names)
    scanned, whole = scan(corpus, fraction, seed), list(corpus.documents())
    assert scanned.content_hash() == corpus.content_hash()
    assert scanned.num_characters == sum(map(len, whole))
    held_out = {number for split in scanned.splits()[1:] for number in split.listed.tolist()}
    reader = Reader()
    for split in scanned.splits():
        count = min(num_shards, split.num_documents)
        wanted = [[] for _ in range(count)]
        mine = [d for i, d in enumerate(whole) if (i in held_out) == split.keeps_listed]
        for i, document in enumerate(mine):
            wanted[i * count // len(mine)].append(document)
        shares = list(split.shares(count))
        assert [list(share.documents()) for share in shares] == wanted
        # One reader goes on from file to file, also where some are there already.
        for i in set(range(count)) - skipped:
            assert list(shares[i].documents(reader)) == wanted[i]
        assert split.num_documents == sum(share.num_documents for share in shares) == len(mine)
        size = sum(map(len, mine))
        assert split.num_characters == sum(share.num_characters for share in shares) == size


def test_one_reader_opens_a_source_once(names, monkeypatch):
    (split,) = scan(open_corpus(names[3:])).splits()
    read, opened = text_sources.read_lines, []
    monkeypatch.setattr(
        text_sources, "read_lines", lambda *a, **k: (opened.append(a), read(*a, **k))[1]
    )
    reader = Reader()
    for share in split.shares(9):
        assert list(share.documents(reader))
    assert len(opened) == 1
    for share in split.shares(9):
        assert list(share.documents())
    assert len(opened) == 10


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
    (split,) = scan(open_corpus(names[:1])).splits()
    for share in split.shares(10):
        (stretch,) = share.stretches
        assert share.first - stretch.first <= 3  # marks are 25 characters apart
        assert stretch.stop == share.first + share.num_documents


def test_text_that_changed_is_refused(names):
    (split,) = scan(open_corpus(names[2:3])).splits()
    (share,) = split.shares(1)
    with open(names[2], "w", encoding="utf-8") as file:
        file.write('{"text": "only this"}\n')
    with pytest.raises(InputError, match="Run the command again"):
        list(share.documents())


def corpus_of(tmp_path, documents):
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.txt"
    path.write_text("\n\n".join(documents), "utf-8")
    return open_corpus(str(path))


def numbered(count):
    return [f"document {i}" for i in range(count)]


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.7])
def test_splits_are_disjoint_complete_and_of_the_share(tmp_path, fraction):
    documents = [f"{i}" + "x" * (i % 50) for i in range(2000)]
    corpus = corpus_of(tmp_path, documents)
    train, validation = scan(corpus, fraction, 0).splits()
    kept, held_out = documents_of(train), documents_of(validation)
    assert sorted(kept + held_out) == sorted(documents)
    assert (train.num_documents, validation.num_documents) == (len(kept), len(held_out))
    assert train.num_characters == sum(map(len, kept))
    assert validation.num_characters == sum(map(len, held_out))
    # Held-out documents stop at the first that completes the share.
    excess = validation.num_characters - fraction * sum(map(len, documents))
    assert 0 <= excess < 54


def test_choice_follows_content_and_seed_not_order(tmp_path):
    def held_out(documents, seed):
        return set(documents_of(scan(corpus_of(tmp_path, documents), 0.1, seed).splits()[1]))

    forward = held_out(numbered(300), 0)
    assert forward == held_out(numbered(300)[::-1], 0)
    assert forward != held_out(numbered(300), 1)


@pytest.mark.parametrize("fraction", [1e-9, 0.5])
def test_equal_documents_stay_together(tmp_path, fraction):
    corpus = corpus_of(tmp_path, numbered(20) * 3)
    train, validation = scan(corpus, fraction, 4).splits()
    kept, held_out = documents_of(train), documents_of(validation)
    assert held_out
    assert not set(kept) & set(held_out)
    assert len(held_out) % 3 == 0


def test_one_document_is_held_out_and_one_left(tmp_path):
    for fraction in (0.001, 0.999):
        documents = ["small", "large" * 99]
        train, validation = scan(corpus_of(tmp_path, documents), fraction).splits()
        assert (train.num_documents, validation.num_documents) == (1, 1)


def test_no_share_no_validation_split(tmp_path):
    (train,) = scan(corpus_of(tmp_path, numbered(3))).splits()
    assert documents_of(train) == numbered(3)


def test_shards_are_runs_of_nearly_equal_size(tmp_path):
    (train,) = scan(corpus_of(tmp_path, numbered(11))).splits()
    shards = [list(share.documents()) for share in train.shares(4)]
    assert [len(documents) for documents in shards] == [3, 3, 3, 2]
    assert [d for documents in shards for d in documents] == numbered(11)


def test_refuses_empty_and_single_document_corpora(tmp_path):
    with pytest.raises(InputError, match="holds no text"):
        scan(corpus_of(tmp_path, ["", " \n"]), 0.1).splits()
    with pytest.raises(InputError, match=r"end at blank lines.*sed G FILE.*validation_corpus="):
        scan(corpus_of(tmp_path, ["only\none"] * 3), 0.1).splits()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
