"""SQuAD's exact match and F1, written from their definition.

Source: Rajpurkar et al. 2016 (arXiv 1606.05250), section 6.1, and 2018 (arXiv
1806.03822), section 5, for questions without an answer.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from etd_tf.errors import InputError
from etd_tf.tasks.squad_data import SquadDataset

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lowercases, removes ASCII punctuation and articles, and collapses white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """1.0 where two answers are equal after normalisation, else 0.0; "no answer" is empty."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def f1_score(prediction: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the bags of normalised words.

    Returns:
        A value from 0 to 1. Where one side has no words, as "no answer" has none, 1 if the
        other has none either, else 0.
    """
    predicted, expected = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not predicted or not expected:
        return float(predicted == expected)
    common = sum((Counter(predicted) & Counter(expected)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2.0 * precision * recall / (precision + recall)


def _score_question(version: str, prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1, each the best over the accepted answers.

    The two official scripts differ on answers without a word, such as ".": v1.1's gives
    them no F1 at all, v2.0's ignores them.
    """
    if version == "v1.1":
        f1 = [f1_score(prediction, answer) for answer in answers if normalize_answer(answer)]
        return max(exact_match(prediction, answer) for answer in answers), max(f1, default=0.0)
    accepted = [answer for answer in answers if normalize_answer(answer)] or [""]
    return (
        max(exact_match(prediction, answer) for answer in accepted),
        max(f1_score(prediction, answer) for answer in accepted),
    )


def score_predictions(dataset: SquadDataset, predictions: Mapping[str, str]) -> dict[str, float]:
    """Scores predictions as the official scripts do, in per cent.

    Args:
        dataset: The questions with their accepted answers.
        predictions: Predicted answer by question id.

    Returns:
        `exact_match` and `f1`; for v2.0 also both over questions with and without an
        answer (`has_answer_f1`, `no_answer_f1`, ...), where there are such questions.

    Raises:
        InputError: A question has no prediction.
    """
    missing = [q.id for q in dataset.questions if q.id not in predictions]
    if missing or not dataset.questions:
        raise InputError(
            f"{len(missing)} of {len(dataset.questions)} questions have no prediction, "
            f"e.g. {', '.join(missing[:3]) or 'none'}. Predict every question once."
        )
    groups: dict[str, list[tuple[float, float]]] = {"": []}
    for question in dataset.questions:
        answers = [text for text, _ in question.answers]
        prediction = predictions[question.id]
        pair = _score_question(dataset.version, prediction, answers)
        groups[""].append(pair)
        if dataset.version != "v1.1":
            kind = "has_answer_" if question.answers else "no_answer_"
            groups.setdefault(kind, []).append(pair)
    scores = {}
    for prefix, pairs in groups.items():
        for place, name in enumerate(("exact_match", "f1")):
            scores[prefix + name] = 100.0 * sum(pair[place] for pair in pairs) / len(pairs)
    return scores
