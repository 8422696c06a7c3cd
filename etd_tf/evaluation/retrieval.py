"""How well vectors of queries find the vectors of documents that answer them."""

from collections.abc import Mapping, Sequence

import numpy as np

from etd_tf.errors import InputError
from etd_tf.evaluation.fidelity import unit_rows
from etd_tf.types import Array, IntArray

_CUT = 10  # of nDCG
_RECALLS = (10, 100)
_BLOCK = 1 << 22  # similarities held at a time

METRICS = (f"ndcg@{_CUT}", *(f"recall@{cut}" for cut in _RECALLS), "mrr")
"""What is measured; the first one is BEIR's."""


def score_retrieval(
    queries: Array,
    documents: Array,
    relevant: Sequence[Mapping[int, int]],
    *,
    left_out: Mapping[int, int] | None = None,
    similarity: str = "cosine",
) -> dict[str, float]:
    """Ranks all documents for each query, exactly, and scores the ranks.

    Documents that are equally similar keep their order. Gains are the grades, and the ideal
    ranking is that of all graded documents, as in trec_eval and BEIR.

    Args:
        queries: Vectors `[q, D]`.
        documents: Vectors `[n, D]`.
        relevant: For each query the grades, above 0, of the documents that answer it, by
            position; at least one.
        left_out: A document by query that is not among the found ones, e.g. the query itself.
        similarity: `"cosine"` or `"dot"`.

    Returns:
        Means over the queries, by the names in `METRICS`.

    Raises:
        InputError: The arrays do not fit each other, or a query has no relevant document.

    Source: nDCG of Järvelin and Kekäläinen 2002; BEIR, Thakur et al. 2021 (arXiv 2104.08663).
    """
    _check(queries, documents, relevant, similarity)
    if similarity == "cosine":
        queries, documents = unit_rows(queries), unit_rows(documents)
    found = np.zeros((len(queries), len(METRICS)))
    step = max(_BLOCK // len(documents), 1)
    for start in range(0, len(queries), step):
        block = queries[start : start + step] @ documents.T
        for row, similarities in enumerate(block, start):
            hidden = None if left_out is None else left_out.get(row)
            if hidden is not None:
                similarities[hidden] = -np.inf
            found[row] = _scores(similarities, relevant[row])
    return dict(zip(METRICS, map(float, found.mean(axis=0)), strict=True))


def _check(
    queries: Array, documents: Array, relevant: Sequence[Mapping[int, int]], similarity: str
) -> None:
    if queries.ndim != 2 or queries.shape[1:] != documents.shape[1:] or not len(documents):
        raise InputError(
            f"Vectors of queries {queries.shape} and documents {documents.shape}: expected "
            "[q, D] and [n, D]."
        )
    if len(relevant) != len(queries) or not len(queries) or not all(relevant):
        raise InputError(
            f"{len(queries)} queries and the relevant documents of {len(relevant)}: expected at "
            "least one query, and a document for each."
        )
    if similarity not in ("cosine", "dot"):
        raise InputError(f"similarity={similarity!r} is unknown; choose from cosine, dot.")
    if not (np.all(np.isfinite(queries)) and np.all(np.isfinite(documents))):
        raise InputError("Some vectors are not finite; the model has diverged or is damaged.")


def _scores(similarities: Array, relevant: Mapping[int, int]) -> list[float]:
    """The metrics of one query."""
    grades = np.asarray([*relevant.values()], np.float64)
    ranks = _ranks(similarities, [*relevant])
    near = ranks <= _CUT
    gain = np.sum(grades[near] / np.log2(1 + ranks[near]))
    best = np.sort(grades)[::-1][:_CUT]
    ideal = np.sum(best / np.log2(2 + np.arange(len(best))))
    recalls = [float(np.mean(ranks <= cut)) for cut in _RECALLS]
    return [float(gain / ideal), *recalls, float(1 / np.min(ranks))]


def _ranks(similarities: Array, places: Sequence[int]) -> IntArray:
    """Ranks, from 1, of the documents at some places among all; of equal ones the first leads."""
    ranks = [
        1
        + np.count_nonzero(similarities > similarities[place])
        + np.count_nonzero(similarities[:place] == similarities[place])
        for place in places
    ]
    return np.asarray(ranks, np.int64)
