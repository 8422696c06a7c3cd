"""`Checkpoint.embed`: order, batches, prompts, lengths, and what it refuses."""

import sys

import numpy as np
import pytest

from etd_tf.checkpoints import embedding
from etd_tf.checkpoints.embedding import TextEmbedder
from etd_tf.errors import InputError
from etd_tf.modeling.pooling import Pooling
from etd_tf.tokenization.sequences import Sequences
from tests.helpers import tiny_checkpoint

TEXTS = ["the cat sat on the mat", "a", "dogs and cats ran", "", "The cat's mat, 3 dogs!"]


def with_pooling(**fields):
    return tiny_checkpoint(num_layers=2).replace(pooling=Pooling(**fields))


@pytest.fixture(scope="module")
def checkpoint():
    return with_pooling(
        modes=("weightedmean",), max_seq_length=12, prompts={"query": "on: "}, lowercase=True
    )


def alone(checkpoint, text, *, length=12, left_out=0):
    """The vector of one text, without padding and batches."""
    ids = checkpoint.tokenizer.backend.encode(text).ids
    if len(ids) > length:
        ids = [*ids[: length - 1], ids[-1]]
    ids = np.asarray([ids], np.int32)
    states = checkpoint.encoder({"token_ids": ids})["sequence_output"]
    counted = np.ones_like(ids)
    counted[:, :left_out] = 0
    return np.asarray(checkpoint.pooling(states, np.ones_like(ids), counted=counted))[0]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_vectors_are_those_of_each_text_alone_in_order(checkpoint, batch_size):
    vectors = checkpoint.embed(TEXTS, batch_size=batch_size)
    assert vectors.dtype == np.float32
    wanted = [alone(checkpoint, text) for text in TEXTS]
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_many_texts_come_in_parts(checkpoint, monkeypatch):
    whole = checkpoint.embed(TEXTS)
    monkeypatch.setattr(embedding, "_TEXTS_AT_ONCE", 2)
    np.testing.assert_allclose(checkpoint.embed(TEXTS), whole, atol=1e-5)


def test_token_sequences_have_the_vectors_of_their_texts(checkpoint):
    rows = tuple(
        np.asarray(checkpoint.tokenizer.backend.encode(text.lower()).ids, np.int32)
        for text in ("the cat", "a dog ran on")
    )
    sequences = Sequences(rows, tuple(map(np.zeros_like, rows)), 0, 12)
    embedder = TextEmbedder(checkpoint.encoder, checkpoint.tokenizer, checkpoint.pooling)
    for batch_size in (1, 2):
        vectors = embedder.embed_sequences(sequences, batch_size=batch_size)
        wanted = checkpoint.embed(["the cat", "a dog ran on"])
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_a_string_is_one_text_and_none_is_none(checkpoint):
    one = checkpoint.embed("the cat")
    assert one.shape == (1, 15)
    np.testing.assert_allclose(one[0], alone(checkpoint, "the cat"), atol=1e-5)
    assert checkpoint.embed([]).shape == (0, 15)
    wide = with_pooling(modes=("cls", "max"), truncate_dim=20)
    assert wide.embed([]).shape == (0, 20)


def test_prompts_come_first_and_may_be_left_out(checkpoint):
    wanted = alone(checkpoint, "on: dogs")
    for prompt in ("query", "on: "):
        vectors = checkpoint.embed(["dogs"], prompt=prompt)
        np.testing.assert_allclose(vectors[0], wanted, atol=1e-5)
    default = checkpoint.replace(
        pooling=Pooling(prompts={"query": "on: "}, default_prompt_name="query")
    )
    np.testing.assert_allclose(
        default.embed("dogs")[0], alone(default, "on: dogs", length=23), atol=1e-5
    )
    np.testing.assert_allclose(
        default.embed("dogs", prompt="")[0], alone(default, "dogs", length=23), atol=1e-5
    )
    apart = with_pooling(prompts={"query": "on: "}, include_prompt=False)
    wanted = alone(apart, "on: dogs", length=23, left_out=3)  # [CLS], on, :
    np.testing.assert_allclose(apart.embed("dogs", prompt="query")[0], wanted, atol=1e-5)


def test_length_of_the_pooling_the_tokenizer_and_the_call(checkpoint):
    assert checkpoint.max_seq_length == 12
    long = " ".join("abcdefghijklmnopqrst")
    assert np.array_equal(checkpoint.embed(long), checkpoint.embed(long[: 2 * 10]))
    np.testing.assert_allclose(
        checkpoint.embed(long, max_length=20)[0], alone(checkpoint, long, length=20), atol=1e-5
    )
    assert tiny_checkpoint().max_seq_length == 23
    assert with_pooling(max_seq_length=99).max_seq_length == 23


def test_length_one_where_asked_for(checkpoint):
    vectors = checkpoint.embed(TEXTS)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(checkpoint.embed(TEXTS, normalize=True), unit, atol=1e-6)
    own = with_pooling(modes=("weightedmean",), normalize=True, max_seq_length=12)
    np.testing.assert_allclose(own.embed(TEXTS), unit, atol=1e-6)
    np.testing.assert_allclose(own.embed(TEXTS, normalize=False), vectors, atol=1e-5)


def test_weights_of_now_and_one_compilation(monkeypatch):
    checkpoint = with_pooling()
    before = checkpoint.embed(TEXTS)
    compiled = []
    monkeypatch.setattr(embedding.tf, "function", compiled.append)
    checkpoint.embed(["a b c d e f g h i j k l m n"], batch_size=3)
    assert not compiled
    for variable in checkpoint.encoder.trainable_variables:
        variable.assign(variable * 0.5)
    after = checkpoint.embed(TEXTS)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after[1], alone(checkpoint, "a", length=23), atol=1e-5)


def test_no_pooling_is_a_mean_with_one_warning(caplog):
    bare = tiny_checkpoint(num_layers=2)
    vectors = bare.embed(TEXTS)
    bare.embed(TEXTS)
    told = [r for r in caplog.records if "does not say how to make" in r.getMessage()]
    assert len(told) == 1
    np.testing.assert_allclose(vectors, with_pooling().embed(TEXTS), atol=1e-6)


def test_short_work_is_quiet(checkpoint, capsys):
    checkpoint.embed(TEXTS)
    checkpoint.embed(TEXTS, show_progress=False)
    assert capsys.readouterr().err == ""
    checkpoint.embed(TEXTS, show_progress=True)
    assert "Embedding texts: 5/5 texts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ["a", 3]}, "Text 1 is a int, expected a string"),
        ({"batch_size": 0}, "batch_size=0 is not a whole number >= 1"),
        ({"batch_size": True}, "batch_size=True"),
        ({"prompt": "passage"}, "no prompt='passage'; the model has query"),
        ({"max_length": 24}, "max_length=24 does not fit .* from 6 to 23"),
    ],
)
def test_what_is_not_valid_is_refused(checkpoint, arguments, message):
    with pytest.raises(InputError, match=message):
        checkpoint.embed(**{"texts": ["a"], **arguments})


def test_a_tokenizer_is_needed():
    with pytest.raises(InputError, match=r"has no tokenizer. Put its vocab.txt"):
        tiny_checkpoint().replace(tokenizer=None).embed("a")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
