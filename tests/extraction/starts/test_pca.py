"""Word embeddings in their principal directions: against a singular value decomposition."""

import itertools
import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.extraction.starts import STARTS, ExtractionOptions, Work
from etd_tf.extraction.starts.pca import principal_embeddings
from tests.helpers import tiny_checkpoint

NAMES = ("embeddings.token", "embeddings.position", "embeddings.segment")


@pytest.fixture
def tables():
    random = np.random.default_rng(0)
    scales = np.diag([5, 4, 3, 2, 1, 0.5])
    shapes = dict(zip(NAMES, (20, 8, 2), strict=True))
    return {name: (random.normal(size=(n, 6)) @ scales + 7) for name, n in shapes.items()}


def test_words_are_scores_on_principal_axes(tables):
    words = tables["embeddings.token"]
    centred = words - words.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:4]
    axes = axes * np.sign(axes[np.arange(4), np.abs(axes).argmax(1)])[:, None]
    found = principal_embeddings(tables, 4)
    np.testing.assert_allclose(found["embeddings.token"], centred @ axes.T, atol=1e-5)
    np.testing.assert_allclose(found["embeddings.token"].mean(0), 0, atol=1e-6)
    gram = found["embeddings.token"].T @ found["embeddings.token"]
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-3)
    # The sum before LayerNorm is the teacher's, projected.
    sums = [
        table[names[0]][3] + table[names[1]][5] + table[names[2]][1]
        for table, names in ((tables, NAMES), (found, NAMES))
    ]
    np.testing.assert_allclose(sums[1], sums[0] @ axes.T, atol=1e-5)


def test_no_choice_of_channels_keeps_more(tables):
    words = tables["embeddings.token"]
    centred = words - words.mean(0)
    kept = (principal_embeddings(tables, 4)["embeddings.token"].astype("f8") ** 2).sum()

    def left(channels):
        fit = np.linalg.lstsq(centred[:, channels], centred, rcond=None)[0]
        return ((centred - centred[:, channels] @ fit) ** 2).sum()

    best = min(left(list(some)) for some in itertools.combinations(range(6), 4))
    assert (centred**2).sum() - kept <= best + 1e-6


def test_a_vector_added_to_all_words_changes_no_word(tables):
    moved = {**tables, "embeddings.token": tables["embeddings.token"] + np.arange(6)}
    found, other = principal_embeddings(tables, 4), principal_embeddings(moved, 4)
    np.testing.assert_allclose(other["embeddings.token"], found["embeddings.token"], atol=1e-4)


def test_the_start_is_random_but_for_the_embeddings():
    teacher = tiny_checkpoint()
    config = teacher.config.replace(hidden_size=6, num_heads=2, intermediate_size=8, num_layers=1)
    options = ExtractionOptions(extraction="none-pca")
    made, plain = (
        STARTS[name].make(Work(teacher, config, options, seed=1)).checkpoint.parameters()
        for name in ("none-pca", "none")
    )
    expected = principal_embeddings(teacher.parameters(), 6)
    for name, value in made.items():
        np.testing.assert_array_equal(value, expected.get(name, plain[name]), err_msg=name)
    wide = teacher.config.replace(hidden_size=30)
    with pytest.raises(InputError, match="at most 15 directions"):
        STARTS["none-pca"].make(Work(teacher, wide, options))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
