"""What a model got right and wrong: by class, which for which, and the worst examples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from etd_tf.tasks.entities import Count
from etd_tf.types import Array, IntArray

MOST_CLASSES = 100
"""Classes up to which there is a confusion matrix."""


def by_class(names: Sequence[str], predictions: IntArray, labels: IntArray) -> dict[str, Any]:
    """Scores of each class, and what is taken for what.

    Args:
        names: Classes in their order.
        predictions: Class numbers `[n]`.
        labels: The right ones `[n]`.

    Returns:
        `classes`: precision, recall, F1 and support by name; `labels`, the names; and up to
        `MOST_CLASSES` classes `confusion`: a row a right class, a column a predicted one.
    """
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    right, found, there = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    counts = [Count(*map(int, one)) for one in zip(right, found, there, strict=True)]
    values: dict[str, Any] = {
        "classes": count_table(dict(zip(names, counts, strict=True))),
        "labels": list(names),
    }
    return values | ({"confusion": matrix.tolist()} if len(names) <= MOST_CLASSES else {})


def count_table(counts: dict[str, Count]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support by name."""
    return {name: {**one.scores(), "support": one.there} for name, one in counts.items()}


def class_losses(logits: Array, labels: IntArray) -> Array:
    """Cross-entropy of each example, `[n]`, of logits `[n, C]` and classes `[n]`."""
    scores = logits.astype(np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return np.asarray(np.log(np.exp(scores).sum(axis=1)) - scores[rows, labels])


def worst_first(losses: Array, count: int) -> list[int]:
    """Positions of the largest losses, the largest first; of equals the first."""
    return [int(row) for row in np.argsort(-losses, kind="stable")[:count]]


def example(texts: Sequence[str], label: str, predicted: str, loss: float) -> dict[str, Any]:
    """One of the worst examples, as plain values."""
    return {"texts": list(texts), "label": label, "predicted": predicted, "loss": float(loss)}
