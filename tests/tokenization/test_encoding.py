"""Tests of bulk encoding: always what the tokenizer itself gives."""

import itertools
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.tokenization import encoding
from etd_tf.tokenization.encoding import Encoder, block_encoder
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import need_quickstart_teacher, need_shared_data, tiny_tokenizer

TINY = Encoder(tiny_tokenizer())


def check(encoder, tokenizer, texts):
    expected = tokenizer.encode_batch(texts)
    ids, lengths = encoder.encode(texts)
    assert lengths.tolist() == [len(row) for row in expected]
    assert ids.tolist() == list(itertools.chain.from_iterable(expected))


@settings(max_examples=60)
@given(
    st.lists(st.text(st.sampled_from("aé中 \n\t\x00\x1c\u3000\u0301\u00a0.,[MASK]ßT9")), max_size=6)
)
def test_equals_the_tokenizer_on_awkward_text(texts):
    check(TINY, tiny_tokenizer(), texts)


@settings(max_examples=40)
@given(st.lists(st.text(), max_size=4))
def test_equals_the_tokenizer_on_any_unicode(texts):
    check(TINY, tiny_tokenizer(), texts)


def test_special_tokens_in_text():
    check(TINY, tiny_tokenizer(), ["a [SEP] b", "x[MASK]y", "[cls]", "the [ MASK ]"])


def test_full_cache_starts_over_and_stays_right(monkeypatch):
    monkeypatch.setattr(encoding, "_MAX_WORDS", 30)
    monkeypatch.setattr(encoding, "_KEPT_WORDS", 10)
    tokenizer = tiny_tokenizer()
    encoder = Encoder(tokenizer)
    for start in range(0, 200, 8):
        check(encoder, tokenizer, [" ".join(f"w{i}" for i in range(start, start + 20)), "the cat"])
    assert len(encoder._index) <= 10 + 22


def test_other_tokenizers_see_whole_texts():
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(
            {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a b": 5, "c": 6},
            unk_token="[UNK]",
        )
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(",", "removed")
    tokenizer = Tokenizer({"tokenizer.json": backend.to_str().encode()})
    check(Encoder(tokenizer), tokenizer, ["a b,c", "", "a,b"])
    assert Encoder(tokenizer).encode(["a b,c"])[0].tolist() == [5, 6]


def test_added_token_with_a_space_is_found():
    tokenizer = tiny_tokenizer()
    tokenizer.backend.add_tokens(["cat mat"])
    check(Encoder(tokenizer), tokenizer, ["the cat mat sat"])


def test_real_vocabulary_on_real_text():
    from importlib import resources

    name = need_quickstart_teacher().removeprefix("package:")
    package, folder = name.split("/")
    tokenizer = Tokenizer.from_directory(str(resources.files(package) / folder))
    text = need_shared_data("corpus", "enwiki-valid.txt").read_text("utf-8")[:300_000]
    encoder = Encoder(tokenizer)
    check(encoder, tokenizer, text.split("\n\n"))
    np.testing.assert_array_equal(encoder.encode([text])[0], encoder.encode(text.split("\n"))[0])


def blocks(count):
    for i in range(count):
        yield i, [f"the cat {i}", "sat on", "x" * (i % 3)]


def collect(workers, count):
    with block_encoder(tiny_tokenizer(), workers) as encode:
        return [(tag, ids.tolist(), n.tolist()) for tag, (ids, n) in encode(blocks(count))]


def test_any_number_of_workers_gives_the_same_in_order():
    one = collect(1, 20)
    assert [tag for tag, _, _ in one] == list(range(20))
    tokenizer = tiny_tokenizer()
    for (tag, ids, lengths), (_, texts) in zip(one, blocks(20), strict=True):
        expected = tokenizer.encode_batch(texts)
        assert ids == [i for row in expected for i in row], tag
        assert lengths == [len(row) for row in expected]
    assert collect(2, 20) == one


def test_reads_only_a_little_ahead_and_ends_early():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield len(taken), ["the cat"]

    with block_encoder(tiny_tokenizer(), 2) as encode:
        assert next(encode(endless()))[0] == 1
    assert len(taken) <= 6


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
