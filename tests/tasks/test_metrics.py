"""Metrics against their definitions in NumPy, and their edge cases."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from etd_tf.errors import InputError
from etd_tf.tasks.metrics import compute_metrics, constant_baseline, f1, matthews, pearson, spearman

CLASSES = hnp.arrays(np.int64, st.just(13), elements=st.integers(0, 1))


def confusion(predictions, labels):
    pairs = [(p, y) for p in (0, 1) for y in (0, 1)]
    counts = [int(((predictions == p) & (labels == y)).sum()) for p, y in pairs]
    tn, fn, fp, tp = counts
    return tn, fn, fp, tp


@settings(max_examples=50)
@given(CLASSES, CLASSES)
def test_class_metrics_follow_their_definitions(predictions, labels):
    tn, fn, fp, tp = confusion(predictions, labels)
    expected_f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    assert f1(predictions, labels) == pytest.approx(expected_f1)
    product = float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    expected = (tp * tn - fp * fn) / np.sqrt(product) if product else 0.0
    assert matthews(predictions, labels) == pytest.approx(expected, abs=1e-12)
    values = compute_metrics(["accuracy"], predictions, labels)
    assert values["accuracy"] == pytest.approx((tp + tn) / 13)


def test_matthews_of_three_classes():
    labels = np.asarray([0, 1, 2, 2, 1, 0])
    assert matthews(labels, labels) == pytest.approx(1.0)
    predictions = np.asarray([0, 1, 2, 1, 1, 2])
    # Gorodkin's R_K: covariance of one-hot codes over the root of the variances.
    x, y = np.eye(3)[predictions], np.eye(3)[labels]
    centred_x, centred_y = x - x.mean(0), y - y.mean(0)
    cov = (centred_x * centred_y).sum()
    expected = cov / np.sqrt((centred_x**2).sum() * (centred_y**2).sum())
    assert matthews(predictions, labels) == pytest.approx(expected)


def test_correlations():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=41).astype(np.float32), generator.normal(size=41)
    y[5] = y[9]  # a tie
    expected = np.corrcoef(x.astype(np.float64), y)[0, 1]
    assert pearson(x, y) == pytest.approx(expected)
    ranks = [np.asarray([(v < a).sum() + ((a == v).sum() + 1) / 2 for v in a]) for a in (-x, -y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert spearman(np.exp(x), y) == pytest.approx(spearman(x, y))


def test_constant_sides_count_as_zero():
    constant, varied = np.ones(5), np.arange(5.0)
    for metric in (pearson, spearman):
        assert metric(constant, varied) == 0.0
        assert metric(varied, constant) == 0.0
    zeros = np.zeros(4, np.int64)
    assert matthews(zeros, np.asarray([0, 1, 0, 1])) == 0.0
    assert f1(zeros, zeros) == 0.0


def test_unusable_inputs_are_refused():
    with pytest.raises(InputError, match=r"shapes \(3,\) and \(2,\)"):
        compute_metrics(["accuracy"], np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="at least one"):
        compute_metrics(["accuracy"], np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="diverged"):
        compute_metrics(["pearson"], np.asarray([1.0, np.nan]), np.zeros(2))


@pytest.mark.parametrize(
    ("names", "labels", "expected", "answer"),
    [
        (("accuracy",), [1, 1, 0, 2, 1], {"accuracy": 0.6}, "the most frequent label"),
        (("f1", "accuracy"), [1, 1, 0], {"f1": 0.8, "accuracy": 2 / 3}, "the most frequent label"),
        (("f1",), [0, 0, 0, 1], {"f1": 0.4}, "always answering b"),
        (("macro_f1",), [2, 1, 2, 2], {"macro_f1": 3 / 7}, "the most frequent label"),
        (("matthews", "accuracy"), [1, 1, 0], {"matthews": 0.0, "accuracy": 2 / 3}, "frequent"),
    ],
)
def test_the_best_constant_answer(names, labels, expected, answer):
    classes = ("a", "b", "c")[: max(labels) + 1]
    found = constant_baseline(names, np.array(labels), classes)
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected)
    assert answer in found[names[0]].answer


def test_correlations_have_a_baseline_of_zero():
    found = constant_baseline(("spearman", "pearson", "r2"), np.array([0.5, 3.0, 2.0]), ())
    assert [one.value for one in found.values()] == pytest.approx([0.0, 0.0, 0.0])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
