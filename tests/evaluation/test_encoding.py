"""Encoding, truncation and batches of similar length."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.encoding import encode_texts, middle_separators
from etd_tf.modeling import BertEncoder
from etd_tf.tasks.squad_data import SquadDataset, SquadQuestion
from etd_tf.tasks.squad_windows import WindowOptions, make_windows
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import tiny_checkpoint, tiny_config, tiny_tokenizer


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint()


def pop_longest(first: list, second: list, room: int) -> tuple[list, list]:
    """BERT's own loop: one token at a time off the longer text, the second on a tie."""
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


def test_single_text(checkpoint):
    sequences = encode_texts(checkpoint, [("The cat sat.",)], max_length=9)
    ids = checkpoint.tokenizer.backend.encode("The cat sat.").ids
    assert sequences.token_ids[0].tolist() == ids
    assert not sequences.segment_ids[0].any()


def test_pair_equals_the_tokenizers_own_template(checkpoint):
    sequences = encode_texts(checkpoint, [("the cat", "a dog ran")], max_length=23)
    encoding = checkpoint.tokenizer.backend.encode("the cat", "a dog ran")
    assert sequences.token_ids[0].tolist() == encoding.ids
    assert sequences.segment_ids[0].tolist() == encoding.type_ids


def test_twins_are_encoded_alone(checkpoint):
    texts = [("the cat", "a dog ran"), ("a", "b c d e f g h")]
    twins = encode_texts(checkpoint, texts, max_length=8, twin=True)
    alone = encode_texts(
        checkpoint, [(text,) for text in ("the cat", "a", "a dog ran")], max_length=9
    )
    batch = twins.batch(range(2))
    assert batch["token_ids"].shape == (4, 8)
    for row, ids in zip(batch["token_ids"], alone.token_ids, strict=False):
        assert row[: len(ids)].tolist() == ids.tolist()
    assert batch["padding_mask"].sum(1).max() == 8  # each text is cut
    assert not batch["segment_ids"].any()


@settings(max_examples=40)
@given(st.integers(0, 14), st.integers(0, 14), st.integers(6, 23))
def test_long_pairs_lose_tokens_as_in_bert(checkpoint, first, second, max_length):
    texts = (" ".join("abcdefghijklmn"[:first]), " ".join("opqrstuvwxyzab"[:second]))
    sequences = encode_texts(checkpoint, [texts], max_length=max_length)
    pieces = checkpoint.tokenizer.encode_batch(texts)
    kept = pop_longest(*pieces, max_length - 3)
    cls, sep = checkpoint.tokenizer.cls_id, checkpoint.tokenizer.sep_id
    assert sequences.token_ids[0].tolist() == [cls, *kept[0], sep, *kept[1], sep]
    segments = [0] * (len(kept[0]) + 2) + [1] * (len(kept[1]) + 1)
    assert sequences.segment_ids[0].tolist() == segments


def test_one_segment_models_get_no_second_segment():
    checkpoint = tiny_checkpoint(type_vocab_size=1)
    sequences = encode_texts(checkpoint, [("a", "b")], max_length=12)
    assert not sequences.segment_ids[0].any()


def test_templates_with_two_separators_are_followed():
    import tokenizers

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b"]
    vocabulary = {word: index for index, word in enumerate(words)}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="<unk>")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = Tokenizer({"tokenizer.json": backend.to_str().encode()})
    config = tiny_config(vocab_size=9, type_vocab_size=1)
    assert middle_separators(tiny_tokenizer()) == 1
    assert middle_separators(tokenizer) == 2
    checkpoint = Checkpoint.from_encoder(BertEncoder(config), tokenizer=tokenizer)
    sequences = encode_texts(checkpoint, [("a", "b a"), ("b",)], max_length=12)
    assert sequences.token_ids[0].tolist() == backend.encode("a", "b a").ids
    assert sequences.token_ids[1].tolist() == backend.encode("b").ids


def transformers_tokenizer(family):
    """A tiny tokenizer of a family, as Transformers builds it."""
    transformers = pytest.importorskip("transformers")
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if family in ("bert", "distilbert"):
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde"]
        kind = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer"}[family]
        return getattr(transformers, kind)(vocab=dict(zip(words, range(10), strict=True)))
    if family == "roberta":
        words = [*specials, *"abcde", "\u0120", "\u0120a"]
        vocab = {word: index for index, word in enumerate(words)}
        return transformers.RobertaTokenizer(vocab=vocab, merges=[("\u0120", "a")])
    pieces = [(piece, 0.0) for piece in specials[:4]]
    pieces += [(piece, -1.0 - n) for n, piece in enumerate(["\u2581", "\u2581a", *"abcde"])]
    if family == "camembert":
        unused = [(f"{piece}NOTUSED", 0.0) for piece in ("<s>", "</s>", "<unk>")]
        return transformers.CamembertTokenizer(vocab=[*pieces, *unused, ("<mask>", 0.0)])
    return transformers.XLMRobertaTokenizer(vocab=pieces)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "xlm-roberta", "camembert"])
def test_pairs_equal_those_of_transformers(family, tmp_path):
    theirs = transformers_tokenizer(family)
    theirs.save_pretrained(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    segments = 2 if family == "bert" else 1
    config = tiny_config(vocab_size=tokenizer.vocab_size, type_vocab_size=segments)
    checkpoint = Checkpoint.from_encoder(BertEncoder(config), tokenizer=tokenizer)
    texts = [("a b", "b a c"), ("d", "e"), ("", "a"), ("c a b",)]
    sequences = encode_texts(checkpoint, texts, max_length=16)
    for row, text in enumerate(texts):
        expected = theirs(*text)
        ids, types = sequences.token_ids[row], sequences.segment_ids[row]
        assert ids.tolist() == expected["input_ids"]
        assert types.tolist() == expected.get("token_type_ids", [0] * len(ids))
    # A paragraph that fits into one window is the same pair.
    data = SquadDataset("v1.1", ("b a c",), (0,), (SquadQuestion("q", "a b", 0, ()),))
    windows = make_windows(checkpoint, data, WindowOptions(16, 4)).sequences
    assert windows.token_ids[0].tolist() == sequences.token_ids[0].tolist()
    assert windows.segment_ids[0].tolist() == sequences.segment_ids[0].tolist()


def test_lengths_and_tokenizers_are_checked(checkpoint):
    with pytest.raises(InputError, match=r"max_length=24 does not fit.*from 6 to 23"):
        encode_texts(checkpoint, [("a",)], max_length=24)
    with pytest.raises(InputError, match="max_length=5"):
        encode_texts(checkpoint, [("a",)], max_length=5)
    bare = Checkpoint.from_encoder(checkpoint.encoder)
    with pytest.raises(InputError, match=r"has no tokenizer. Put its vocab.txt"):
        encode_texts(bare, [("a",)], max_length=12)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
