"""Scores that are no better than an answer that does not look at the example."""

import sys

import pytest

from etd_tf.evaluation.baseline import Baseline, baseline_values, describe_failures

FREQUENT = "always answering the most frequent label"
BASELINES = {"dev": {"f1": Baseline(0.8, "always yes"), "accuracy": Baseline(0.68, FREQUENT)}}


def test_a_score_below_the_baseline_is_named_with_both_numbers():
    (sentence,) = describe_failures({"dev": {"accuracy": 0.61}}, BASELINES)
    assert sentence == (
        f"dev: accuracy 0.6100; {FREQUENT} gives 0.6800: the model has learnt nothing that helps."
    )


def test_an_equal_score_is_no_better():
    assert len(describe_failures({"dev": {"accuracy": 0.68}}, BASELINES)) == 1


def test_better_scores_and_unknown_splits_are_not_named():
    scores = {"dev": {"f1": 0.81, "accuracy": 0.7}, "other": {"accuracy": 0.1}}
    assert describe_failures(scores, BASELINES) == []
    assert describe_failures(scores, {}) == []


def test_one_metric_of_two_is_not_called_nothing():
    (sentence,) = describe_failures({"dev": {"f1": 0.797, "accuracy": 0.72}}, BASELINES)
    assert sentence.startswith("dev: f1 0.7970; always yes gives 0.8000: by f1")
    assert "learnt nothing" not in sentence


def test_plain_values():
    assert baseline_values(BASELINES) == {"dev": {"f1": 0.8, "accuracy": 0.68}}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
