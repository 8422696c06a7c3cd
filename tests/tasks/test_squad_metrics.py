"""Exact match and F1 on hand cases and against a second implementation at scale."""

import re
import string
import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.tasks.squad_data import SquadDataset, SquadQuestion, load_squad
from etd_tf.tasks.squad_metrics import exact_match, f1_score, normalize_answer, score_predictions
from tests.helpers import need_shared_data


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Cat!", "cat"),
        ("an A-Team", "ateam"),
        ("theatre", "theatre"),
        ("a\tthe\nan", ""),
        ("U.S.A.", "usa"),
        ("\u201cquoted\u201d", "\u201cquoted\u201d"),  # only ASCII punctuation goes
        ("\u00c9cole the", "\u00e9cole"),
        ("the-end", "theend"),
    ],
)
def test_normalisation(text, normalized):
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("prediction", "answer", "exact", "f1"),
    [
        ("The Cat", "cat.", 1.0, 1.0),
        ("black cat", "cat", 0.0, 2 / 3),
        ("cat cat dog", "cat dog dog", 0.0, 2 / 3),
        ("dog", "cat", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("the", "", 1.0, 1.0),
        ("", "cat", 0.0, 0.0),
        ("cat", "", 0.0, 0.0),
        ("one two three four", "four", 0.0, 0.4),
    ],
)
def test_hand_cases(prediction, answer, exact, f1):
    assert exact_match(prediction, answer) == exact
    assert f1_score(prediction, answer) == pytest.approx(f1)


def reference(prediction, answer):
    """The definition, spelled out over word lists instead of counters."""

    def words(text):
        kept = [character for character in text.lower() if character not in string.punctuation]
        found = re.split(r"\s+", re.sub(r"\b(?:the|an|a)\b", " ", "".join(kept)).strip())
        return [word for word in found if word]

    predicted, expected = words(prediction), words(answer)
    if not predicted or not expected:
        return float(predicted == expected), float(predicted == expected)
    rest, common = list(expected), 0
    for word in predicted:
        if word in rest:
            rest.remove(word)
            common += 1
    f1 = 2 * common / (len(predicted) + len(expected))
    return float(predicted == expected), f1


def test_at_scale_against_the_definition():
    generator = np.random.default_rng(0)
    vocabulary = ["the", "a", "An", "cat", "Dog", "mat,", "U.S.", "--", "\u00e9t\u00e9", "x1", " "]
    for _ in range(5000):
        prediction, answer = (
            " ".join(generator.choice(vocabulary, size=generator.integers(0, 6))) for _ in range(2)
        )
        exact, f1 = reference(prediction, answer)
        assert exact_match(prediction, answer) == exact, (prediction, answer)
        assert f1_score(prediction, answer) == pytest.approx(f1), (prediction, answer)
        assert f1_score(prediction, answer) == pytest.approx(f1_score(answer, prediction))
        assert f1_score(prediction, answer) >= exact_match(prediction, answer)


def test_on_every_real_answer_against_the_definition():
    data = load_squad("v1.1", "dev", need_shared_data("squad"))
    generator = np.random.default_rng(1)
    for question in data.questions:
        context = data.contexts[question.context]
        for answer, start in question.answers[:1]:
            begin = max(start + int(generator.integers(-9, 10)), 0)
            prediction = context[begin : begin + len(answer) + int(generator.integers(-3, 9))]
            exact, f1 = reference(prediction, answer)
            assert exact_match(prediction, answer) == exact, (prediction, answer)
            assert f1_score(prediction, answer) == pytest.approx(f1), (prediction, answer)
    perfect = {question.id: question.answers[0][0] for question in data.questions}
    scores = score_predictions(data, perfect)
    assert scores["exact_match"] == 100.0
    assert scores["f1"] > 99.9  # the official script gives "." no F1


def dataset(version, *answers):
    questions = tuple(
        SquadQuestion(str(number), "?", 0, tuple((text, 0) for text in texts))
        for number, texts in enumerate(answers)
    )
    return SquadDataset(version, ("context",), (0,), questions)


def test_the_best_accepted_answer_counts_and_values_are_per_cent():
    scores = score_predictions(
        dataset("v1.1", ["cat", "black cat"], ["dog"]), {"0": "black cat sat", "1": "dog"}
    )
    assert scores == {
        "exact_match": 50.0,
        "f1": pytest.approx(100 * (0.8 + 1.0) / 2),
    }


def test_questions_without_answer():
    data = dataset("v2.0", ["cat"], [], [])
    scores = score_predictions(data, {"0": "the cat", "1": "", "2": "dog"})
    assert scores["has_answer_f1"] == 100.0
    assert scores["no_answer_f1"] == scores["no_answer_exact_match"] == 50.0
    assert scores["f1"] == pytest.approx(200 / 3)


def test_answers_without_words_follow_each_official_script():
    assert score_predictions(dataset("v1.1", ["."]), {"0": "."}) == {"exact_match": 100, "f1": 0}
    ignored = score_predictions(dataset("v2.0", [".", "cat"]), {"0": "."})
    assert ignored["f1"] == ignored["exact_match"] == 0.0


def test_every_question_needs_a_prediction():
    with pytest.raises(InputError, match=r"1 of 2 questions have no prediction, e.g. 1"):
        score_predictions(dataset("v1.1", ["cat"], ["dog"]), {"0": "cat"})


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
