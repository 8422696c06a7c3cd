"""The zero-shot similarity probe."""

import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from etd_tf.checkpoints.loading import load_checkpoint
from etd_tf.tasks.glue import GLUE_TASKS
from etd_tf.tasks.glue_data import load_glue
from etd_tf.tasks.probe import StsProbe, compare_sts, sentence_embeddings, sts_probe
from tests.evaluation.fixtures import write_stsb
from tests.helpers import need_quickstart_teacher, need_shared_data, tiny_checkpoint


def mean_state(checkpoint, text):
    """The encoder on one unpadded sentence, averaged over its tokens."""
    ids = np.asarray([checkpoint.tokenizer.backend.encode(text).ids], np.int32)
    states = np.asarray(checkpoint.encoder({"token_ids": ids})["sequence_output"])[0]
    return states.mean(axis=0)


def test_embeddings_average_real_tokens_only():
    checkpoint = tiny_checkpoint()
    texts = ["a", "the cat sat on the mat", "dog ran"]
    embeddings = sentence_embeddings(checkpoint, texts, max_length=16)
    for text, embedding in zip(texts, embeddings, strict=True):
        np.testing.assert_allclose(embedding, mean_state(checkpoint, text), atol=1e-5)


def test_one_text_and_no_text_are_texts():
    checkpoint = tiny_checkpoint()
    one = sentence_embeddings(checkpoint, "the cat sat", max_length=16)
    np.testing.assert_allclose(one[0], mean_state(checkpoint, "the cat sat"), atol=1e-5)
    assert len(one) == 1
    none = sentence_embeddings(checkpoint, [], max_length=16)
    assert (none.shape, none.dtype) == ((0, one.shape[1]), one.dtype)
    assert one.dtype == np.float32


def test_probe_is_the_rank_correlation_of_cosines(tmp_path):
    checkpoint = tiny_checkpoint()
    examples = load_glue(GLUE_TASKS["stsb"], "dev", write_stsb(tmp_path))
    cosines = []
    for pair in examples.texts:
        a, b = (mean_state(checkpoint, text) for text in pair)
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    expected = spearmanr(cosines, examples.labels).statistic
    assert sts_probe(checkpoint, examples, max_length=20) == pytest.approx(expected, abs=1e-6)
    values = compare_sts({"one": checkpoint, "two": tiny_checkpoint(1)}, examples, max_length=20)
    assert list(values) == ["one", "two"]
    assert values["one"] == pytest.approx(expected, abs=1e-6)
    assert values["one"] != values["two"]


def test_quickstart_teacher_on_real_data():
    folder = need_shared_data("glue", "STS-B").parent
    examples = load_glue(GLUE_TASKS["stsb"], "dev", folder)
    part = examples.take(np.arange(0, 1500, 6))
    value = sts_probe(load_checkpoint(need_quickstart_teacher()), part)
    assert value == pytest.approx(0.867, abs=0.03)


def test_vectors_without_meaning_are_named():
    scores = {"good": {"spearman": 0.7}, "bad": {"spearman": -0.02}}
    (remark,) = StsProbe().remarks(scores)
    assert remark.startswith("bad: spearman -0.0200; equal vectors for all sentences give 0.0000")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
