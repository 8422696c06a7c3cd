"""Zero-shot sentence similarity: a health check of an encoder that needs no training."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from etd_tf.tasks.glue import GLUE_TASKS, GlueData
from etd_tf.tasks.task import ScoredTask
from etd_tf.tasks.text_task import Examples
from etd_tf.types import Array

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class StsProbe(GlueData, ScoredTask):
    """Similarities of STS-B's sentence pairs, without any training on them."""

    name: str = "sts-probe"
    label: str = "zero-shot STS-B"
    metrics: tuple[str, ...] = ("spearman",)

    def examples(self) -> Examples:
        """Reads STS-B's pairs with their human scores."""
        return dataclasses.replace(GLUE_TASKS["stsb"], glue_dir=self.glue_dir).read(self.split)

    def fingerprints(self) -> dict[str, str]:
        """Reads the pairs; their hash."""
        return {self.split: self.examples().fingerprint()}

    def remarks(self, scores: "Mapping[str, Scores]") -> tuple[str, ...]:
        """Names the models whose vectors are no better than equal ones."""
        return tuple(
            f"{name}: {self.metric} {found[self.metric]:.4f}; equal vectors for all sentences give "
            "0.0000: these say nothing about similarity."
            for name, found in scores.items()
            if found[self.metric] <= 0.0
        )

    def score(self, models: "Mapping[str, Checkpoint]") -> "dict[str, Scores]":
        """Scores models, see `ScoredTask.score`; all at the length that the shortest has."""
        length = self.length_for(*models.values())
        values = compare_sts(models, self.examples(), max_length=length)
        return {name: {self.metric: value} for name, value in values.items()}


def sentence_embeddings(
    checkpoint: "Checkpoint", texts: str | Sequence[str], *, max_length: int = 128
) -> Array:
    """Makes a vector of each sentence, float32 `[n, D]`; see `Checkpoint.embed`."""
    return checkpoint.embed(texts, max_length=max_length)


def sts_probe(checkpoint: "Checkpoint", examples: Examples, *, max_length: int = 128) -> float:
    """Spearman correlation of cosine similarities with STS-B's human scores.

    Args:
        checkpoint: The encoder with its tokenizer.
        examples: A labelled STS-B split.
        max_length: Longer sentences are cut.

    Returns:
        The correlation, from -1 to 1; 0 where all similarities are equal.

    Raises:
        InputError: The checkpoint has no tokenizer, or the examples have no scores.
    """
    import numpy as np

    from etd_tf.tasks.metrics import spearman

    texts = sorted({text for pair in examples.texts for text in pair})
    place = {text: row for row, text in enumerate(texts)}
    embeddings = sentence_embeddings(checkpoint, texts, max_length=max_length)
    norms = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    unit = embeddings / norms
    first, second = (unit[[place[pair[side]] for pair in examples.texts]] for side in range(2))
    return spearman(np.sum(first * second, axis=1), examples.need_labels())


def compare_sts(
    models: "Mapping[str, Checkpoint]", examples: Examples, *, max_length: int = 128
) -> dict[str, float]:
    """Runs `sts_probe` on several models by the name to report, e.g. a teacher and students."""
    return {
        name: sts_probe(checkpoint, examples, max_length=max_length)
        for name, checkpoint in models.items()
    }
