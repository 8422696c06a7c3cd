"""Tasks of one or two texts with a label: a class or a score."""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etd_tf.errors import InputError
from etd_tf.lazy import LazyModule
from etd_tf.modeling.reading import PAIRS, POOLS, Reading
from etd_tf.settings import setting, summaries
from etd_tf.tasks.task import TrainedTask
from etd_tf.types import Array, IntArray

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Experiment

text_experiment: Any = LazyModule("etd_tf.tasks.text_experiment")  # what needs Keras


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split in memory.

    Attributes:
        split: Its split name.
        texts: One or two texts an example.
        labels: Int64 classes or float32 scores `[n]`; None in test splits.
        indices: Int64 `[n]`, the dataset's own example numbers.
        skipped: Malformed rows (only where the task allows them): left out, but in test splits
            kept with the texts that are there, as a submission needs a line for each.
        undecided: Rows left out as annotators agreed on no label.
    """

    task: "TextTask"
    split: str
    texts: tuple[tuple[str, ...], ...]
    labels: Array | None
    indices: IntArray
    skipped: int = 0
    undecided: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    def need_labels(self) -> Array:
        """Returns the labels.

        Raises:
            InputError: The split has none.
        """
        if self.labels is None:
            raise InputError(
                f"{self.task.label} {self.split} has no labels. "
                f"Use {' or '.join(self.task.evaluation_splits) or 'another task'}."
            )
        return self.labels

    def fingerprint(self) -> str:
        """SHA-256 of texts, labels and numbers; the same from whatever files."""
        labels = None if self.labels is None else self.labels.tolist()
        content = (self.task.kept_name, self.split, self.texts, labels, self.indices.tolist())
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def take(self, rows: IntArray) -> "Examples":
        """Returns the examples at the given positions, in that order."""
        return dataclasses.replace(
            self,
            texts=tuple(self.texts[row] for row in rows),
            labels=None if self.labels is None else self.labels[rows],
            indices=self.indices[rows],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask(TrainedTask):
    """A task of one or two texts; a subclass says how a split is read.

    Attributes:
        label_names: Class names in the order of the labels; empty for regression.
        text_names: Names of the one or two texts for who serves the model.
        evaluation_splits: Labelled splits that results are reported on.
        pool: Which vector of a text the head of a new model reads.
        pairs: How it reads a pair.
    """

    label_names: tuple[str, ...]
    text_names: tuple[str, ...] = ("text",)
    evaluation_splits: tuple[str, ...] = ("dev",)
    pool: str = setting(
        "pooled",
        lambda: f"Texts with a class or a score: what the head reads. {summaries(POOLS)}",
        choices=lambda: POOLS,
    )
    pairs: str = setting(
        "joint",
        lambda: f"Pairs of texts: how they are read. {summaries(PAIRS)}",
        choices=lambda: PAIRS,
    )

    head: ClassVar[str] = "classifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reading.is_twin and len(self.text_names) == 1:
            raise InputError(
                f"pairs={self.pairs} is for two texts, and an example of {self.name} has one. "
                "Leave it out, or name the column of the second text where the files are yours."
            )

    @property
    def reading(self) -> Reading:
        """What the head of a model reads that is fine-tuned for the task."""
        return Reading(self.pool, self.pairs)

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number."""
        return not self.label_names

    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels; empty for regression."""
        return self.label_names

    def scored_splits(self) -> tuple[str, ...]:
        """Labelled splits that are there."""
        return self.evaluation_splits

    def settings_of_training(self) -> dict[str, Any]:
        """What else decides a training, beside source, content and length of the examples."""
        return {}

    def training_weights(self, labels: Array) -> Array | None:
        """Weight of each training example in the loss, float32 `[n]`; None for all alike."""
        del labels
        return None

    @property
    def kept_name(self) -> str:
        """The task's name in fingerprints and in the configuration of fine-tuned models."""
        return self.name.rpartition("/")[2]

    @abc.abstractmethod
    def read(self, split: str) -> Examples:
        """Reads `"train"`, one of `scored_splits` or a split of `submissions`.

        Raises:
            InputError: The data is missing or malformed.
        """

    def submissions(self) -> "list[tuple[TextTask, str]]":
        """Unlabelled splits to be predicted, each with the task that reads and writes it."""
        return []

    def write_submission(
        self, directory: Path, split: str, indices: IntArray, predictions: Array
    ) -> Path:
        """Writes the predictions of one of `submissions`.

        Args:
            directory: Gets the file.
            split: The split.
            indices: The dataset's example numbers, `[n]`.
            predictions: Class numbers, or scores, `[n]`.
        """
        raise NotImplementedError(f"{self.name} has submissions, but no way to write them.")

    def fingerprints(self) -> dict[str, str]:
        """Reads the training data and all evaluation splits; a hash of each."""
        return {split: self.read(split).fingerprint() for split in ("train", *self.scored_splits())}

    def experiment(
        self, checkpoint: "Checkpoint", label_names: Sequence[str] | None = None
    ) -> "Experiment":
        """Reads and tokenises the data for a model, see `TrainedTask.experiment`."""
        made: Experiment = text_experiment.TextExperiment(self, checkpoint, label_names)
        return made
