"""Metrics of classes and numbers: GLUE's, and those usual for users' own tasks.

A metric of constant predictions is undefined for correlations; GLUE counts it as 0.
"""

from collections.abc import Callable, Sequence

import numpy as np

from etd_tf.errors import InputError
from etd_tf.evaluation.baseline import Baseline
from etd_tf.types import Array


def accuracy(predictions: Array, labels: Array) -> float:
    """Share of equal entries; arguments are class numbers `[n]`."""
    return float(np.mean(predictions == labels))


def f1(predictions: Array, labels: Array) -> float:
    """F1 of class 1, 0 where it is neither predicted nor present; class numbers `[n]`."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0.0))


def macro_f1(predictions: Array, labels: Array) -> float:
    """Mean F1 of the classes that are predicted or present; class numbers `[n]`."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))


def matthews(predictions: Array, labels: Array) -> float:
    """Matthews correlation, 0 where one side is constant; class numbers `[n]`."""
    from sklearn.metrics import matthews_corrcoef

    if _constant(predictions) or _constant(labels):
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def r2(predictions: Array, labels: Array) -> float:
    """Share of the labels' variance that is explained, 0 where all are equal; numbers `[n]`."""
    from sklearn.metrics import r2_score

    return 0.0 if _constant(labels) else float(r2_score(labels, predictions))


def pearson(predictions: Array, labels: Array) -> float:
    """Pearson correlation of real numbers `[n]`, 0 where one side is constant."""
    from scipy.stats import pearsonr

    if _constant(predictions) or _constant(labels):
        return 0.0
    return float(pearsonr(predictions.astype(np.float64), labels.astype(np.float64)).statistic)


def spearman(predictions: Array, labels: Array) -> float:
    """Spearman correlation of real numbers `[n]`, 0 where one side is constant."""
    from scipy.stats import spearmanr

    if _constant(predictions) or _constant(labels):
        return 0.0
    return float(spearmanr(predictions, labels).statistic)


def _constant(values: Array) -> bool:
    return bool(np.all(values == values[0]))


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "r2": r2,
    "spearman": spearman,
}


def constant_baseline(
    names: Sequence[str], labels: Array, label_names: Sequence[str]
) -> dict[str, Baseline]:
    """Finds what the best constant answer reaches.

    Args:
        names: Keys of `METRICS`.
        labels: `[n]`, class numbers or scores.
        label_names: Class names in their order; empty for scores.

    Returns:
        By metric: for accuracy the share of the most frequent label, for F1 that of class 1
        for every example, for correlations and R2 0.
    """
    if not label_names:
        answer = "giving every example the same score"
        equal = np.full(len(labels), np.mean(labels, dtype=np.float64))
        return {name: Baseline(METRICS[name](equal, labels), answer) for name in names}
    counts = np.bincount(labels, minlength=len(label_names))
    frequent = int(np.argmax(counts))
    found = {}
    for name in names:
        candidates = (frequent, 1) if name == "f1" else (frequent,)  # F1 looks at class 1 alone
        reached = {
            label: METRICS[name](np.full(len(labels), label), labels) for label in candidates
        }
        best = max(reached, key=lambda label: reached[label])  # of equals the most frequent
        which = "the most frequent label" if best == frequent else label_names[best]
        found[name] = Baseline(reached[best], f"always answering {which}")
    return found


def compute_metrics(names: Sequence[str], predictions: Array, labels: Array) -> dict[str, float]:
    """Computes several metrics.

    Args:
        names: Keys of `METRICS`.
        predictions: `[n]`, class numbers or scores.
        labels: `[n]`, the same.

    Raises:
        InputError: The arrays are empty, differ in shape or are not finite.
    """
    if predictions.shape != labels.shape or predictions.ndim != 1 or not len(labels):
        raise InputError(
            f"Metrics need as many predictions as labels, at least one; received shapes "
            f"{predictions.shape} and {labels.shape}."
        )
    if not np.all(np.isfinite(predictions)):
        raise InputError("Some predictions are not finite; the model has diverged.")
    return {name: METRICS[name](predictions, labels) for name in names}
