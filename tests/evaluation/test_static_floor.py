"""The static student: weights, components, and that it keeps something of a real teacher."""

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from etd_tf.checkpoints.loading import load_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.fidelity import measure_fidelity
from etd_tf.evaluation.static_floor import count_tokens, make_static_floor
from etd_tf.modeling.pooling import Pooling
from tests.helpers import need_quickstart_teacher, need_shared_data, tiny_checkpoint

TEXTS = ["the cat sat on the mat", "a dog ran", "", "the the the cat"]


@pytest.fixture(scope="module")
def teacher():
    return tiny_checkpoint(num_layers=1)


def ids_of(teacher, texts):
    return [np.asarray(ids, np.int64) for ids in teacher.tokenizer.encode_batch(texts)]


def counts_of(teacher, texts):
    return count_tokens(ids_of(teacher, texts), teacher.config.vocab_size)


def test_tokens_are_counted(teacher):
    counts = counts_of(teacher, TEXTS)
    vocabulary = teacher.tokenizer.backend.get_vocab()
    assert counts[vocabulary["the"]] == 5
    assert counts[vocabulary["cat"]] == 2
    assert counts.sum() == sum(len(ids) for ids in ids_of(teacher, TEXTS))
    packed = np.asarray([[1, 1, 2], [2, 0, 1]])
    np.testing.assert_array_equal(count_tokens([packed], 4), [1, 3, 2, 0])


def test_a_vector_is_the_weighted_sum_of_centred_tokens(teacher):
    counts = counts_of(teacher, TEXTS)
    floor = make_static_floor(teacher, counts, 15)
    table = teacher.parameters()["embeddings.token"].astype(np.float64)
    share = counts / counts.sum()
    weight = 1e-4 / (1e-4 + share)
    mean = np.average(table, axis=0, weights=share * weight)
    expected = [sum((weight[i] * (table[i] - mean) for i in ids), np.zeros(15)) for ids in
                ids_of(teacher, TEXTS)]  # fmt: skip
    np.testing.assert_allclose(floor.embed(TEXTS), expected, atol=1e-6)
    assert floor.embed(TEXTS).dtype == np.float32
    assert floor.embed([]).shape == (0, 15)
    assert 0 < floor.seconds < 10


def test_a_narrow_floor_keeps_the_principal_components(teacher):
    rows = np.arange(5, 60)  # each token once: equal weights, so plain components
    counts = count_tokens([rows], teacher.config.vocab_size)
    floor = make_static_floor(teacher, counts, 4)
    assert floor.dimension == 4
    table = teacher.parameters()["embeddings.token"].astype(np.float64)[rows]
    expected = PCA(4, svd_solver="full").fit_transform(table)
    actual = floor.embed_ids([rows[i : i + 1] for i in range(len(rows))])
    actual /= 1e-4 / (1e-4 + 1 / len(rows))
    signs = np.sign(np.sum(actual * expected, axis=0))
    np.testing.assert_allclose(actual * signs, expected, atol=1e-5)


def test_special_tokens_and_padding_change_nothing(teacher):
    tokenizer = teacher.tokenizer
    counts = counts_of(teacher, TEXTS)
    ids = ids_of(teacher, TEXTS[:1])[0]
    special = [tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    row = np.asarray([tokenizer.cls_id, *ids, tokenizer.sep_id, tokenizer.pad_id, *special])
    floor = make_static_floor(teacher, counts, 7)
    np.testing.assert_array_equal(floor.embed_ids([row]), floor.embed_ids([ids]))
    counts[special] += 1000  # in a packed corpus they are frequent
    other = make_static_floor(teacher, counts, 7)
    np.testing.assert_array_equal(other.table, floor.table)


def test_texts_are_cut_and_lowercased_as_the_teacher_does(teacher):
    pooling = Pooling(max_seq_length=6, lowercase=True)
    floor = make_static_floor(teacher.replace(pooling=pooling), counts_of(teacher, TEXTS), 15)
    long, cut = floor.embed(["the cat sat on the mat", "THE CAT sat on"])
    np.testing.assert_array_equal(long, cut)


def test_without_text_all_tokens_count_the_same(teacher):
    vocab = teacher.config.vocab_size
    floor = make_static_floor(teacher, np.zeros(vocab, np.int64), 15)
    table = teacher.parameters()["embeddings.token"]
    np.testing.assert_allclose(floor.table[9], table[9] - table.mean(axis=0), atol=1e-6)


def test_a_teacher_without_tokenizer_is_refused(teacher):
    with pytest.raises(InputError, match="no tokenizer"):
        make_static_floor(teacher.replace(tokenizer=None), np.zeros(9, np.int64), 15)


def test_a_real_teacher_leaves_it_something():
    teacher = load_checkpoint(need_quickstart_teacher())
    path = need_shared_data("corpus", "enwiki-valid.txt")
    lines = path.read_text(encoding="utf-8").split("\n")
    texts = [line[:120] for line in lines if len(line) > 60][:250]
    floor = make_static_floor(teacher, counts_of(teacher, lines[:3000]), 192)
    found = measure_fidelity(teacher.embed(texts, max_length=40), floor.embed(texts))
    assert found.neighbours > 0.4
    assert found.spearman > 0.4


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
