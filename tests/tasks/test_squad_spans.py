"""From logits to answers, against exhaustive search."""

import itertools
import sys

import numpy as np
import pytest

from etd_tf.tasks.squad_data import SquadDataset, SquadQuestion
from etd_tf.tasks.squad_spans import SpanOptions, choose_answers
from etd_tf.tasks.squad_windows import WindowOptions, make_windows
from tests.helpers import tiny_checkpoint

CONTEXT = "The cat sat on the mat and the dog ran, of 1 2 3."


@pytest.fixture(scope="module")
def case():
    """Overlapping windows of one question, and random logits with padding behind them."""
    entry = SquadQuestion("q", "cat?", 0, (("cat", 4),))
    dataset = SquadDataset("v1.1", (CONTEXT,), (0,), (entry,))
    windows = make_windows(tiny_checkpoint(), dataset, WindowOptions(14, 4))
    generator = np.random.default_rng(3)
    logits = [generator.normal(size=(16, 2)) * 3 for _ in windows.question]
    return dataset, windows, logits


def exhaustive(windows, logits, longest):
    """Every legal span of every window, best first."""
    offsets, found = windows.offsets[0], []
    for row, values in enumerate(logits):
        first, prefix = windows.first_token[row], windows.prefix[row]
        for start, end in itertools.combinations_with_replacement(range(windows.count[row]), 2):
            if end - start < longest:
                score = values[prefix + start, 0] + values[prefix + end, 1]
                text = CONTEXT[offsets[first + start][0] : offsets[first + end][1]]
                found.append((score, text))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_best_span_over_all_windows(case, longest):
    dataset, windows, logits = case
    assert len(windows.question) > 2
    answers = choose_answers(dataset, windows, logits, SpanOptions(max_answer_length=longest))
    expected = exhaustive(windows, logits, longest)
    assert answers.predictions["q"] == expected[0][1]
    best = list(dict.fromkeys(text for _, text in expected))[:5]
    assert [candidate.text for candidate in answers.num_best["q"][:5]] == best
    assert answers.num_best["q"][0].score == pytest.approx(expected[0][0])


def test_num_best_is_limited_and_sorted(case):
    answers = choose_answers(*case, SpanOptions(num_best=7))
    scores = [candidate.score for candidate in answers.num_best["q"]]
    assert len(scores) == 7
    assert scores == sorted(scores, reverse=True)
    assert len({candidate.text for candidate in answers.num_best["q"]}) == 7


def test_no_answer_wins_by_its_threshold(case):
    dataset, windows, logits = case
    v2 = SquadDataset("v2.0", dataset.contexts, dataset.articles, dataset.questions)
    best = exhaustive(windows, logits, 30)[0]
    logits = [values.copy() for values in logits]
    for row, values in enumerate(logits):
        values[0] = best[0] + row, 1.5  # the smallest over the windows counts: row 0's
    odds = choose_answers(v2, windows, logits).null_odds["q"]
    assert odds == pytest.approx(1.5)
    predictions = {
        threshold: choose_answers(
            v2, windows, logits, SpanOptions(null_threshold=threshold)
        ).predictions["q"]
        for threshold in (1.4, 1.6)
    }
    assert predictions == {1.4: "", 1.6: best[1]}
    assert choose_answers(dataset, windows, logits).predictions["q"] == best[1]  # v1.1


def test_empty_paragraphs_give_the_empty_answer():
    entry = SquadQuestion("q", "cat?", 0, ())
    dataset = SquadDataset("v1.1", ("",), (0,), (entry,))
    windows = make_windows(tiny_checkpoint(), dataset, WindowOptions(14, 4))
    answers = choose_answers(dataset, windows, [np.zeros((8, 2))])
    assert answers.predictions == {"q": ""}
    assert np.isfinite(answers.null_odds["q"])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
