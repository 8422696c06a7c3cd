"""From token logits to answers: n-best spans and the choice of no answer."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from etd_tf.tasks.squad_data import SquadDataset
from etd_tf.tasks.squad_windows import Windows
from etd_tf.types import Array

_BEST_TOKENS = 20  # starts, ends and spans considered in a window


@dataclasses.dataclass(frozen=True)
class SpanOptions:
    """How answers are chosen.

    Attributes:
        max_answer_length: Longest answer in tokens.
        num_best: Answers kept a question.
        null_threshold: No answer is predicted where its score exceeds the best answer's
            by more than this (v2.0 only).
    """

    max_answer_length: int = 30
    num_best: int = 20
    null_threshold: float = 0.0


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An answer.

    Attributes:
        text: Its characters, as they are in the paragraph.
        score: Start logit plus end logit.
    """

    text: str
    score: float


@dataclasses.dataclass(frozen=True)
class Answers:
    """Predictions for a dataset, by question id.

    Attributes:
        predictions: The answer; empty for "no answer".
        num_best: The best answers, in falling order of score.
        null_odds: Score of no answer minus the best answer's: what the official v2.0
            script takes as `--na-prob-file`.
    """

    predictions: dict[str, str]
    num_best: dict[str, list[Candidate]]
    null_odds: dict[str, float]


def choose_answers(
    dataset: SquadDataset,
    windows: Windows,
    logits: Sequence[Array],
    options: SpanOptions = SpanOptions(),
) -> Answers:
    """Picks the best span of each question over all of its windows.

    Args:
        dataset: The questions.
        windows: Their windows.
        logits: Of each window, `[T, 2]` start and end logits, possibly padded.
        options: Limits and threshold.
    """
    found: list[list[tuple[float, int, int]]] = [[] for _ in dataset.questions]
    null_scores = np.full(len(dataset.questions), np.inf)
    for row, question in enumerate(windows.question):
        null_scores[question] = min(null_scores[question], float(logits[row][0].sum()))
        found[question] += _window_spans(windows, row, logits[row], options.max_answer_length)
    predictions: dict[str, str] = {}
    num_best: dict[str, list[Candidate]] = {}
    null_odds: dict[str, float] = {}
    for entry, spans, null in zip(dataset.questions, found, null_scores, strict=True):
        context = dataset.contexts[entry.context]
        best = _distinct(context, windows.offsets[entry.context], spans, options.num_best)
        odds = float(null) - (best[0].score if best else 0.0)
        empty = not best or (dataset.version != "v1.1" and odds > options.null_threshold)
        predictions[entry.id] = "" if empty else best[0].text
        num_best[entry.id], null_odds[entry.id] = best, odds
    return Answers(predictions, num_best, null_odds)


def _window_spans(
    windows: Windows, row: int, logits: Array, max_answer_length: int
) -> list[tuple[float, int, int]]:
    """Scored spans of one window, as tokens of the paragraph."""
    prefix, count = int(windows.prefix[row]), int(windows.count[row])
    inside = np.asarray(logits[prefix : prefix + count], np.float64)
    kept = min(_BEST_TOKENS, count)
    starts = np.argsort(-inside[:, 0], kind="stable")[:kept]
    ends = np.argsort(-inside[:, 1], kind="stable")[:kept]
    lengths = ends[None, :] - starts[:, None] + 1
    legal = (lengths >= 1) & (lengths <= max_answer_length)
    scores = np.where(legal, inside[starts, 0][:, None] + inside[ends, 1][None, :], -np.inf)
    first = int(windows.first_token[row])
    best = np.argsort(-scores, axis=None, kind="stable")[: min(_BEST_TOKENS, int(legal.sum()))]
    return [
        (float(scores[i, j]), first + int(starts[i]), first + int(ends[j]))
        for i, j in zip(*np.unravel_index(best, scores.shape), strict=True)
    ]


def _distinct(
    context: str, offsets: Array, spans: list[tuple[float, int, int]], limit: int
) -> list[Candidate]:
    """The best spans with different texts, in falling order of score."""
    best: dict[str, Candidate] = {}
    for score, start, end in sorted(spans, key=lambda span: -span[0]):
        text = context[offsets[start, 0] : offsets[end, 1]]
        best.setdefault(text, Candidate(text, score))
        if len(best) == limit:
            break
    return list(best.values())
