"""What a model must beat: the scores of answers that do not look at the example."""

import dataclasses
from collections.abc import Mapping

_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The best score that one answer to everything reaches.

    Attributes:
        value: The metric's value.
        answer: How it is reached, e.g. "always answering the most frequent label".
    """

    value: float
    answer: str


Baselines = dict[str, dict[str, Baseline]]
"""By split and metric."""


def baseline_values(baselines: Baselines) -> dict[str, dict[str, float]]:
    """The plain numbers, by split and metric."""
    return {
        split: {metric: found.value for metric, found in metrics.items()}
        for split, metrics in baselines.items()
    }


def describe_failures(scores: Mapping[str, Mapping[str, float]], baselines: Baselines) -> list[str]:
    """Says which scores are no better than an answer that does not look at the example.

    Returns:
        A sentence for each such score; none where all are better.
    """
    sentences = []
    for split, metrics in scores.items():
        known = {name: found for name, found in baselines.get(split, {}).items() if name in metrics}
        failed = {
            name: found for name, found in known.items() if metrics[name] <= found.value + _ROUNDING
        }
        verdict = (
            "the model has learnt nothing that helps"
            if len(failed) == len(known)
            else "by {name} the model is no better than that"
        )
        sentences += [
            f"{split}: {name} {metrics[name]:.4f}; {found.answer} gives {found.value:.4f}: "
            f"{verdict.format(name=name)}."
            for name, found in failed.items()
        ]
    return sentences
