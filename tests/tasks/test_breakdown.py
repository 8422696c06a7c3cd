"""Tables by class, confusion and worst examples, against scikit-learn."""

import sys

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from etd_tf.tasks import breakdown

NAMES = ("a", "b", "c", "never")


def test_classes_are_scikit_learns():
    generator = np.random.default_rng(0)
    labels, found = generator.integers(0, 3, (2, 40))
    values = breakdown.by_class(NAMES, found, labels)
    expected = precision_recall_fscore_support(labels, found, labels=range(4), zero_division=0.0)
    for number, name in enumerate(NAMES):
        row = [values["classes"][name][key] for key in ("precision", "recall", "f1", "support")]
        assert row == pytest.approx([column[number] for column in expected])
    assert values["confusion"] == confusion_matrix(labels, found, labels=range(4)).tolist()
    assert values["labels"] == list(NAMES)


def test_a_huge_matrix_is_left_out():
    names = [str(number) for number in range(breakdown.MOST_CLASSES + 1)]
    values = breakdown.by_class(names, np.arange(9), np.arange(9))
    assert "confusion" not in values
    assert values["classes"]["3"]["f1"] == 1.0


def test_losses_are_cross_entropies_and_the_worst_come_first():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(6, 3)) * 50, generator.integers(0, 3, 6)
    losses = breakdown.class_losses(logits.astype(np.float32), labels)
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    one_by_one = [log_loss([y], [p], labels=range(3)) for y, p in zip(labels, chances, strict=True)]
    assert np.isfinite(losses).all()
    small = losses < 30  # scikit-learn clips chances of almost 0
    np.testing.assert_allclose(losses[small], np.asarray(one_by_one)[small], atol=1e-4)
    assert breakdown.worst_first(np.asarray([1.0, 3.0, 3.0, 0.0]), 3) == [1, 2, 0]
    assert breakdown.worst_first(np.asarray([1.0]), 3) == [0]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
