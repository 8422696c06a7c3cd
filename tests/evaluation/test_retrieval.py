"""Retrieval metrics against a plain implementation that sorts."""

import math
import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation import retrieval
from etd_tf.evaluation.retrieval import score_retrieval
from etd_tf.tasks import TASKS


def plain_scores(similarities, relevant, left_out=()):
    """Sorts documents, then reads the metrics off the list."""
    every = []
    for row, (values, grades) in enumerate(zip(similarities, relevant, strict=True)):
        hidden = dict(left_out).get(row)
        order = sorted(
            (place for place in range(len(values)) if place != hidden), key=lambda p: -values[p]
        )
        gains = [grades.get(place, 0) for place in order]
        ideal = sorted(grades.values(), reverse=True)
        dcg, best = (
            sum(gain / math.log2(rank + 2) for rank, gain in enumerate(some[:10]))
            for some in (gains, ideal)
        )
        first = next(rank for rank, gain in enumerate(gains, 1) if gain)
        recalls = [sum(g > 0 for g in gains[:cut]) / len(grades) for cut in (10, 100)]
        every.append([dcg / best, *recalls, 1 / first])
    return dict(zip(retrieval.METRICS, np.mean(every, axis=0), strict=True))


def some_search(seed=0, queries=9, documents=150, width=6):
    generator = np.random.default_rng(seed)
    grades = [
        {
            int(place): int(generator.integers(1, 4))
            for place in generator.choice(documents, generator.integers(1, 14), replace=False)
        }
        for _ in range(queries)
    ]
    vectors = (generator.normal(size=(n, width)).astype(np.float32) for n in (queries, documents))
    return *vectors, grades


@pytest.mark.parametrize("block", [1, 400, 1 << 22])
@pytest.mark.parametrize("seed", [0, 1])
def test_numbers_are_those_of_a_plain_sort(monkeypatch, seed, block):
    monkeypatch.setattr(retrieval, "_BLOCK", block)
    queries, documents, grades = some_search(seed)
    dots = queries.astype(np.float64) @ documents.T
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(documents, axis=1)
    found = score_retrieval(queries, documents, grades, similarity="dot")
    assert found == pytest.approx(plain_scores(dots, grades), abs=1e-9)
    cosine = score_retrieval(queries, documents, grades)
    assert cosine == pytest.approx(plain_scores(dots / lengths, grades), abs=1e-9)
    assert cosine != found
    assert 0 < cosine["recall@10"] < cosine["recall@100"] <= 1


def test_a_perfect_ranking_has_one():
    documents = np.eye(20, dtype=np.float32)
    found = score_retrieval(documents[:5], documents, [{row: 1} for row in range(5)])
    assert found == {"ndcg@10": 1.0, "recall@10": 1.0, "recall@100": 1.0, "mrr": 1.0}
    graded = np.asarray([[3.0, 2.0, 1.0, 0.0]], np.float32)
    best = score_retrieval(graded, np.eye(4, dtype=np.float32), [{0: 3, 1: 2, 2: 1}])
    assert best["ndcg@10"] == 1.0
    worse = score_retrieval(graded, np.eye(4, dtype=np.float32), [{0: 1, 1: 2, 2: 3}])
    expected = (1 + 2 / math.log2(3) + 3 / 2) / (3 + 2 / math.log2(3) + 1 / 2)
    assert worse["ndcg@10"] == pytest.approx(expected)


def test_the_query_itself_is_not_found():
    queries, documents, grades = some_search(3)
    documents[17] = queries[2]
    grades[2].pop(17, None)
    left_out = {2: 17, 4: 100}
    grades[4].pop(100, None)
    dots = queries.astype(np.float64) @ documents.T
    found = score_retrieval(queries, documents, grades, left_out=left_out, similarity="dot")
    assert found == pytest.approx(plain_scores(dots, grades, left_out.items()), abs=1e-9)
    assert found != score_retrieval(queries, documents, grades, similarity="dot")


def test_equal_documents_keep_their_order():
    documents = np.ones((30, 2), np.float32)
    found = score_retrieval(documents[:1], documents, [{0: 1, 29: 1}])
    assert found["mrr"] == 1.0
    assert found["recall@10"] == 0.5
    assert score_retrieval(documents[:1], documents, [{11: 1}])["mrr"] == pytest.approx(1 / 12)


def test_the_tasks_report_what_is_measured():
    assert TASKS["retrieval"].metrics == TASKS["squad-retrieval"].metrics == retrieval.METRICS


def test_what_does_not_fit_is_refused():
    queries, documents, grades = some_search()
    with pytest.raises(InputError, match=r"queries \(9, 5\) and documents \(150, 6\): expected"):
        score_retrieval(queries[:, :5], documents, grades)
    with pytest.raises(InputError, match="9 queries and the relevant documents of 8"):
        score_retrieval(queries, documents, grades[:8])
    with pytest.raises(InputError, match="a document for each"):
        score_retrieval(queries, documents, [*grades[:8], {}])
    with pytest.raises(InputError, match="choose from cosine, dot"):
        score_retrieval(queries, documents, grades, similarity="euclidean")
    documents[3] = np.inf
    with pytest.raises(InputError, match="not finite"):
        score_retrieval(queries, documents, grades)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
