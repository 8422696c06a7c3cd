"""The graph's tokens are the tokenizer's tokens."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.export.text_encoder import TextEncoder, why_not_encodable
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import WORDPIECES, need_quickstart_teacher, need_shared_data, tiny_tokenizer

NASTY = (
    "",
    "   \t\n ",
    "The cat sat; on (the) mat.",
    "[MASK] and [SEP], the[MASK]cat [mask] [UNK]x[",
    "a" * 100,
    "a" * 101,
    "\u00e9" * 100,
    "\u00e9" * 101,
    "\u4e2d\u6587 mixed \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4",
    "\U0001f600 ok \U0001f468\u200d\U0001f469",
    "x\x00y\ufffdz \x07",
    "a\x00b\x00[SEP]c",
    "Caf\u00e9 cafe\u0301 \u0130stanbul stra\u00dfe",
    "\u2028para\u200bzero\u200dwidth\u00adsoft",
    "\ufeffthe \ufb01 \u2460 \u00bd \u2026",
    "\u03a3\u0391\u03a3 |pipe||",
    "\U0010ffff\ue000the",
)


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(tiny_tokenizer(), max_length=12)


def pieces(encoder, texts):
    return encoder.tokenize(tf.constant(list(texts), tf.string)).to_list()


def test_nasty_text_of_a_tiny_vocabulary(encoder):
    assert pieces(encoder, NASTY) == tiny_tokenizer().encode_batch(NASTY)


def test_cased_tokenizer():
    vocabulary = [*WORDPIECES, "The", "Cat", "\u00e9"]
    cased = Tokenizer.from_wordpieces(vocabulary, lowercase=False)
    texts = [*NASTY, "The Cat the cat \u00e9"]
    assert pieces(TextEncoder(cased, max_length=9), texts) == cased.encode_batch(texts)


def test_vocabulary_with_gaps_and_duplicates():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "the", "", "cat", "##s"]
    tokenizer = Tokenizer.from_wordpieces(vocabulary)
    texts = ["the cats", "[unused] the"]
    assert pieces(TextEncoder(tokenizer, max_length=9), texts) == tokenizer.encode_batch(texts)


@settings(max_examples=60)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_unicode_text(encoder, texts):
    assert pieces(encoder, texts) == tiny_tokenizer().encode_batch(texts)


@settings(max_examples=40)
@given(st.text(alphabet="abct []MASKEPUN#\u00e9\u4e2d!-\u0301\x00", max_size=30))
def test_text_full_of_special_characters(encoder, text):
    assert pieces(encoder, [text]) == tiny_tokenizer().encode_batch([text])


def test_bytes_that_are_not_utf8_are_dropped(encoder):
    got = pieces(encoder, [b"\xff\xfethe\xc3 cat"])
    assert got == tiny_tokenizer().encode_batch(["the cat"])


def test_real_vocabulary_on_real_text():
    from etd_tf.storage.sources import resolve_source

    tokenizer = Tokenizer.from_directory(resolve_source(need_quickstart_teacher()))
    text = need_shared_data("corpus", "enwiki-valid.txt").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line][:600]
    encoder = TextEncoder(tokenizer, max_length=128)
    assert pieces(encoder, [*lines, *NASTY]) == tokenizer.encode_batch([*lines, *NASTY])


def test_single_texts_are_wrapped_truncated_and_padded(encoder):
    out = encoder(tf.constant(["a b", "", "c " * 30]))
    a, b, c = (WORDPIECES.index(letter) for letter in "abc")
    expected = np.zeros((3, 12), np.int32)
    expected[0, :4] = 2, a, b, 3
    expected[1, :2] = 2, 3
    expected[2] = [2, *[c] * 10, 3]
    np.testing.assert_array_equal(out["token_ids"], expected)
    np.testing.assert_array_equal(out["padding_mask"], expected > 0)
    np.testing.assert_array_equal(out["segment_ids"], np.zeros((3, 12)))
    assert {value.dtype for value in out.values()} == {tf.int32}


def test_batch_is_as_wide_as_its_longest_text(encoder):
    assert encoder(tf.constant(["a", "a b c"]))["token_ids"].shape == (2, 5)
    assert encoder(tf.constant([], tf.string))["token_ids"].shape[0] == 0


def test_padding_uses_the_tokenizers_own_id():
    vocabulary = ["the", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"]
    out = TextEncoder(Tokenizer.from_wordpieces(vocabulary), max_length=6)(
        tf.constant(["the the", "the"])
    )
    np.testing.assert_array_equal(out["token_ids"], [[2, 0, 0, 3], [2, 0, 3, 5]])
    np.testing.assert_array_equal(out["padding_mask"], [[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize("lengths", [(1, 2), (9, 9), (3, 20), (20, 3), (5, 5), (4, 5), (0, 30)])
def test_pairs_lose_tokens_of_the_longer_text_first(encoder, lengths):
    first, second = lengths
    room = 12 - 3
    while first + second > room:  # BERT's own rule, one token at a time
        if first > second:
            first -= 1
        else:
            second -= 1
    out = encoder(tf.constant(["a " * lengths[0]]), tf.constant(["b " * lengths[1]]))
    a, b = WORDPIECES.index("a"), WORDPIECES.index("b")
    expected = [2, *[a] * first, 3, *[b] * second, 3]
    np.testing.assert_array_equal(out["token_ids"], [expected])
    np.testing.assert_array_equal(out["segment_ids"], [[0] * (first + 2) + [1] * (second + 1)])


def test_pairs_of_a_model_without_segments_share_one():
    encoder = TextEncoder(tiny_tokenizer(), max_length=9, num_segments=1)
    out = encoder(tf.constant(["a"]), tf.constant(["b"]))
    assert not np.any(out["segment_ids"])


def test_too_short_a_length_is_refused():
    with pytest.raises(InputError, match="Use 5 or more"):
        TextEncoder(tiny_tokenizer(), max_length=4)


def tokenizer_with(**changes):
    values = json.loads(tiny_tokenizer().backend.to_str()) | changes
    return Tokenizer({"tokenizer.json": json.dumps(values).encode()})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalises with Lowercase"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "splits with Whitespace"),
    ],
)
def test_other_tokenizers_are_refused_with_the_reason(changes, reason):
    tokenizer = tokenizer_with(**changes)
    assert reason in why_not_encodable(tokenizer)
    with pytest.raises(InputError, match=reason):
        TextEncoder(tokenizer, max_length=9)


def test_byte_pair_tokenizers_are_refused_with_the_reason():
    vocabulary = {name: i for i, name in enumerate(["<pad>", "<unk>", "<s>", "</s>", "<mask>"])}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer = Tokenizer({"tokenizer.json": backend.to_str().encode()})
    assert "BPE, not WordPiece" in why_not_encodable(tokenizer)
    assert why_not_encodable(None) == "the checkpoint has no tokenizer"
    assert why_not_encodable(tiny_tokenizer()) is None


def test_added_words_are_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.backend.add_tokens(["mat"])
    assert "'mat'" in why_not_encodable(tokenizer)


@pytest.mark.parametrize("texts", [1, 2])
def test_no_texts_have_the_width_of_the_shortest(texts):
    encoder = TextEncoder(tiny_tokenizer(), max_length=12)
    outputs = encoder(*[tf.constant([], tf.string)] * texts)
    assert {value.shape for value in outputs.values()} == {(0, 1 + texts)}
    assert encoder(*[tf.constant([""])] * texts)["token_ids"].shape == (1, 1 + texts)


def test_length_of_one_call():
    encoder = TextEncoder(tiny_tokenizer(), max_length=12)
    text = tf.constant(["the cat sat on the mat"])
    assert encoder(text, max_length=5)["token_ids"].shape == (1, 5)
    assert encoder(text)["token_ids"].shape == (1, 8)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
