"""Tests of holding documents out."""

import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.text.corpus import open_corpus
from etd_tf.text.splitting import split_documents


def corpus_of(tmp_path, documents):
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.txt"
    path.write_text("\n\n".join(documents), "utf-8")
    return open_corpus(str(path))


def names(count):
    return [f"document {i}" for i in range(count)]


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.7])
def test_splits_are_disjoint_complete_and_of_the_share(tmp_path, fraction):
    documents = [f"{i}" + "x" * (i % 50) for i in range(2000)]
    corpus = corpus_of(tmp_path, documents)
    train, validation = split_documents(corpus, fraction, seed=0)
    kept, held_out = list(train.documents()), list(validation.documents())
    assert sorted(kept + held_out) == sorted(documents)
    assert (train.num_documents, validation.num_documents) == (len(kept), len(held_out))
    assert train.num_characters == sum(map(len, kept))
    assert validation.num_characters == sum(map(len, held_out))
    # Held-out documents stop at the first that completes the share.
    excess = validation.num_characters - fraction * sum(map(len, documents))
    assert 0 <= excess < 54


def test_choice_follows_content_and_seed_not_order(tmp_path):
    def held_out(documents, seed):
        return set(split_documents(corpus_of(tmp_path, documents), 0.1, seed=seed)[1].documents())

    forward = held_out(names(300), 0)
    assert forward == held_out(names(300)[::-1], 0)
    assert forward != held_out(names(300), 1)


@pytest.mark.parametrize("fraction", [1e-9, 0.5])
def test_equal_documents_stay_together(tmp_path, fraction):
    corpus = corpus_of(tmp_path, names(20) * 3)
    train, validation = split_documents(corpus, fraction, seed=4)
    kept, held_out = list(train.documents()), list(validation.documents())
    assert held_out
    assert not set(kept) & set(held_out)
    assert len(held_out) % 3 == 0


def test_one_document_is_held_out_and_one_left(tmp_path):
    for fraction in (0.001, 0.999):
        documents = ["small", "large" * 99]
        train, validation = split_documents(corpus_of(tmp_path, documents), fraction, seed=0)
        assert (train.num_documents, validation.num_documents) == (1, 1)


def test_no_share_no_validation_split(tmp_path):
    (train,) = split_documents(corpus_of(tmp_path, names(3)), 0.0, seed=0)
    assert list(train.documents()) == names(3)


def test_shards_are_runs_of_nearly_equal_size(tmp_path):
    (train,) = split_documents(corpus_of(tmp_path, names(11)), 0.0, seed=0)
    shards = [(number, list(documents)) for number, documents in train.shards(4)]
    assert [number for number, _ in shards] == [0, 1, 2, 3]
    assert [len(documents) for _, documents in shards] == [3, 3, 3, 2]
    assert [d for _, documents in shards for d in documents] == names(11)


def test_refuses_empty_and_single_document_corpora(tmp_path):
    with pytest.raises(InputError, match="holds no text"):
        split_documents(corpus_of(tmp_path, ["", " \n"]), 0.1, seed=0)
    with pytest.raises(InputError, match=r"by blank lines, or give --validation_corpus"):
        split_documents(corpus_of(tmp_path, ["only\none"] * 3), 0.1, seed=0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
