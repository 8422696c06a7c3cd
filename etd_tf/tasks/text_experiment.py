"""Fine-tuning data, scores and predictions of a task of texts with a label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.baseline import Baselines
from etd_tf.evaluation.classifiers import SequenceClassifier
from etd_tf.evaluation.encoding import encode_texts
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.training import TrainingSet
from etd_tf.tasks import breakdown
from etd_tf.tasks.metrics import compute_metrics, constant_baseline
from etd_tf.tasks.text_task import Examples, TextTask
from etd_tf.tokenization.sequences import Sequences
from etd_tf.types import Array, IntArray


class TextExperiment(Experiment):
    """A task of texts, tokenised for one model.

    Args:
        checkpoint: The model, for its tokenizer and sizes.
        label_names: Class order of the model's logits, the task's own by default; a
            fine-tuned model has its own order, and reads texts as it was trained.

    Attributes:
        reading: What the head reads.

    Raises:
        InputError: Data is missing or malformed, the label names are not the task's,
            or the task has no labelled data (AX).
    """

    head = SequenceClassifier

    def __init__(
        self, task: TextTask, checkpoint: Checkpoint, label_names: Sequence[str] | None = None
    ) -> None:
        if not task.evaluation_splits:
            raise InputError(
                f"{task.label} has no labelled data. Use task=glue/mnli: it also writes the "
                "predictions for AX."
            )
        length = task.length_for(checkpoint)
        super().__init__(checkpoint, name=task.name, metric=task.metric, max_length=length)
        self.task: TextTask = task
        self.text_names = task.text_names
        self.kept_name = task.kept_name
        head = checkpoint.task_head if label_names is not None else None
        self.reading = task.reading if head is None else head.reading
        self.take_labels(task.classes(), label_names)
        self._examples: dict[tuple[str, str], Examples] = {}
        self._sequences: dict[tuple[str, str], Sequences] = {}
        self._logits: dict[str, Array] = {}  # of the last evaluation, by split
        for split in task.scored_splits():  # bad files are refused before any training
            self._read(task, split)
        for owner, split in task.submissions():
            self._read(owner, split)

    def _read(self, task: TextTask, split: str) -> Examples:
        """Reads a split once."""
        key = (task.name, split)
        if key not in self._examples:
            examples = self._examples[key] = task.read(split)
            what = (
                "left out"
                if examples.labels is not None
                else "predicted from the fields that are there"
            )
            for count, kind in (
                (examples.skipped, f"malformed rows are {what}"),
                (examples.undecided, "rows whose annotators agreed on no label are left out"),
            ):
                if count:
                    logging.warning("%s %s: %d %s.", task.label, split, count, kind)
        return self._examples[key]

    def _tokens(self, task: TextTask, split: str) -> Sequences:
        """Tokenises a split once."""
        key = (task.name, split)
        if key not in self._sequences:
            self._sequences[key] = self.encode(self._read(task, split).texts)
        return self._sequences[key]

    def encode(self, texts: Sequence[tuple[str, ...]]) -> Sequences:
        """Tokenises examples as the model reads them."""
        twin, length = self.reading.is_twin, self.max_length
        return encode_texts(self._checkpoint, texts, max_length=length, twin=twin)

    def settings(self) -> dict[str, Any]:
        """Source, content and length of the examples."""
        splits = ("train", *self.task.scored_splits())
        return {
            "source": self.task.source,
            "data": {split: self._read(self.task, split).fingerprint() for split in splits},
            "max_length": self.max_length,
            **self.reading.changes(),
            **self.task.settings_of_training(),
        }

    def make_model(self, checkpoint: Checkpoint, dtype: Any = None) -> SequenceClassifier:
        """Builds a classifier with a logit for each class, or one for the score."""
        outputs = max(len(self.label_names), 1)
        return SequenceClassifier.of_checkpoint(checkpoint, outputs, self.reading, dtype=dtype)

    def training_set(self) -> TrainingSet:
        """All training examples."""
        labels = self._read(self.task, "train").need_labels()
        weights = self.task.training_weights(labels)
        weighted = {} if weights is None else {"weights": weights}
        return TrainingSet(self._tokens(self.task, "train"), {"labels": labels, **weighted})

    def training_groups(self) -> IntArray:
        """Every example is its own group."""
        return np.arange(len(self._read(self.task, "train")))

    def evaluate_training_rows(self, model: keras.Model, rows: IntArray) -> Scores:
        """Scores a model on some training examples."""
        labels = self._read(self.task, "train").need_labels()[rows]
        sequences = self._tokens(self.task, "train").take(rows)
        logits = self._run(model, sequences, f"Evaluating {self.task.label} held-out")
        return compute_metrics(self.task.metrics, self._chosen(logits), labels)

    def evaluate(self, model: keras.Model) -> dict[str, Scores]:
        """Scores a model on every evaluation split; MNLI has two."""
        scores = {}
        for split in self.task.scored_splits():
            labels = self._read(self.task, split).need_labels()
            what = f"Evaluating {self.task.label} {split}"
            logits = self._run(model, self._tokens(self.task, split), what)
            self._logits[split] = logits
            scores[split] = compute_metrics(self.task.metrics, self._chosen(logits), labels)
        return scores

    def details(self) -> dict[str, Any]:
        """By split the scores of each class and their confusion, and the worst examples."""
        return {split: self._details(split, logits) for split, logits in self._logits.items()}

    def _details(self, split: str, logits: Array) -> dict[str, Any]:
        examples, found = self._read(self.task, split), self._chosen(logits)
        labels, names = examples.need_labels(), self.label_names
        values: dict[str, Any] = {}
        losses = np.abs(found - labels)
        if names:
            values = breakdown.by_class(names, found, labels)
            losses = breakdown.class_losses(logits, labels)
        if self.show_examples:
            show = names.__getitem__ if names else "{:.4g}".format
            values["examples"] = [
                breakdown.example(
                    examples.texts[row], show(labels[row]), show(found[row]), losses[row]
                )
                for row in breakdown.worst_first(losses, self.show_examples)
            ]
        return values

    def baseline(self) -> Baselines:
        """What the same label or score for every example reaches."""
        return {
            split: constant_baseline(
                self.task.metrics, self._read(self.task, split).need_labels(), self.label_names
            )
            for split in self.task.scored_splits()
        }

    def _run(self, model: keras.Model, sequences: Sequences, what: str) -> Array:
        """Logits in the order of the task's classes, `[n, C]`; of a score `[n, 1]`."""
        logits = np.stack(self.run(model, sequences, what))
        return logits if self.task.is_regression else logits[:, self.class_order]

    def _chosen(self, logits: Array) -> Array:
        """Class numbers, or scores, `[n]`."""
        return logits[:, 0] if self.task.is_regression else np.argmax(logits, axis=1)

    def write_predictions(self, model: keras.Model, directory: Path) -> list[Path]:
        """Writes a file for each of the task's submissions, e.g. `SST-2.tsv`."""
        paths = []
        for task, split in self.task.submissions():
            what = f"Predicting {task.label} {split}"
            logits = self._run(model, self._tokens(task, split), what)
            predictions = self._chosen(logits)
            indices = self._read(task, split).indices
            paths.append(task.write_submission(directory, split, indices, predictions))
        return paths
