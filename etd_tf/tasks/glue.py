"""GLUE: fine-tuning data, scores and prediction files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import SequenceClassifier
from etd_tf.evaluation.encoding import Sequences, encode_texts
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.finetuned import match_labels, save_finetuned
from etd_tf.evaluation.inference import Forward, compile_forward, run_sequences
from etd_tf.evaluation.serving import export_classifier
from etd_tf.evaluation.training import TrainingSet, classification_loss, regression_loss
from etd_tf.storage.atomic import write_atomically
from etd_tf.tasks.glue_data import GlueExamples, has_split, load_glue
from etd_tf.tasks.glue_tasks import GLUE_TASKS, MAX_SCORE, MIN_SCORE, GlueTask
from etd_tf.tasks.metrics import compute_metrics
from etd_tf.types import Array, IntArray, Tensor


class GlueExperiment(Experiment):
    """One GLUE task, tokenised for one model.

    Args:
        task: The task.
        source: The GLUE directory, or `tfds[:DATA_DIR]`.
        checkpoint: The model, for its tokenizer and sizes.
        max_length: Tokens of an example.
        label_names: Class order of the model's logits, the task's own by default; a
            fine-tuned model has its own order.

    Raises:
        InputError: A file is missing or malformed, the label names are not the task's,
            or the task has no labelled data (AX).
    """

    def __init__(
        self,
        task: GlueTask,
        source: str | Path,
        checkpoint: Checkpoint,
        *,
        max_length: int = 128,
        label_names: Sequence[str] | None = None,
    ) -> None:
        if not task.evaluation_splits:
            raise InputError(
                f"{task.title} has no labelled data. Use --task=glue/mnli: it also writes the "
                "predictions for AX."
            )
        self.task = task
        self.name = f"glue/{task.name}"
        self.metric = task.metrics[0]
        self.loss = regression_loss if task.is_regression else classification_loss
        self._source, self._checkpoint, self._max_length = source, checkpoint, max_length
        self._class_order = match_labels(
            task.label_names if label_names is None else label_names, task.label_names
        )
        self._examples: dict[tuple[str, str], GlueExamples] = {}
        self._sequences: dict[tuple[str, str], Sequences] = {}
        self._forward: tuple[keras.Model, Forward] | None = None
        for split in task.evaluation_splits:  # bad files are refused before any training
            self._read(task, split)
        for owner, split in self._submissions():
            self._read(owner, split)

    def _submissions(self) -> list[tuple[GlueTask, str]]:
        """The test sets that are there; a model of MNLI also predicts AX."""
        tasks = [self.task, *([GLUE_TASKS["ax"]] if self.task.name == "mnli" else [])]
        return [
            (task, split)
            for task in tasks
            for split in task.test_splits
            if has_split(task, split, self._source)
        ]

    def _read(self, task: GlueTask, split: str) -> GlueExamples:
        """Reads a split once."""
        key = (task.name, split)
        if key not in self._examples:
            examples = self._examples[key] = load_glue(task, split, self._source)
            if examples.skipped:
                logging.warning(
                    "%s %s: %d malformed rows are left out.", task.title, split, examples.skipped
                )
        return self._examples[key]

    def _tokens(self, task: GlueTask, split: str) -> Sequences:
        """Tokenises a split once."""
        key = (task.name, split)
        if key not in self._sequences:
            texts = self._read(task, split).texts
            self._sequences[key] = encode_texts(
                self._checkpoint, texts, max_length=self._max_length
            )
        return self._sequences[key]

    def settings(self) -> dict[str, Any]:
        """Source, content and length of the examples."""
        splits = ("train", *self.task.evaluation_splits)
        return {
            "source": str(self._source),
            "data": {split: self._read(self.task, split).fingerprint() for split in splits},
            "max_length": self._max_length,
        }

    def make_model(self, checkpoint: Checkpoint, dtype: Any = None) -> SequenceClassifier:
        """Builds a classifier with a logit for each class, or one for the score."""
        outputs = max(len(self.task.labels), 1)
        return SequenceClassifier(checkpoint.config, outputs, dtype=dtype)

    def training_set(self) -> TrainingSet:
        """All of train.tsv."""
        labels = self._read(self.task, "train").need_labels()
        return TrainingSet(self._tokens(self.task, "train"), {"labels": labels})

    def training_groups(self) -> IntArray:
        """Every example is its own group."""
        return np.arange(len(self._read(self.task, "train")))

    def evaluate_training_rows(self, model: keras.Model, rows: IntArray) -> Scores:
        """Scores a model on some rows of train.tsv."""
        labels = self._read(self.task, "train").need_labels()[rows]
        return self._score(model, self._tokens(self.task, "train").take(rows), labels, "held-out")

    def evaluate(self, model: keras.Model) -> dict[str, Scores]:
        """Scores a model on dev; MNLI has two."""
        scores = {}
        for split in self.task.evaluation_splits:
            labels = self._read(self.task, split).need_labels()
            scores[split] = self._score(model, self._tokens(self.task, split), labels, split)
        return scores

    def _score(self, model: keras.Model, sequences: Sequences, labels: Array, what: str) -> Scores:
        what = f"Evaluating {self.task.title} {what}"
        predictions = self.predict(model, sequences, what)
        return compute_metrics(self.task.metrics, predictions, labels)

    def predict(self, model: keras.Model, sequences: Sequences, description: str) -> Array:
        """Predicts class numbers in the task's order, or scores, `[n]`."""
        if self._forward is None or self._forward[0] is not model:
            self._forward = (model, compile_forward(_logits_of(model)))
        logits = np.stack(run_sequences(self._forward[1], sequences, description=description))
        if self.task.is_regression:
            return logits[:, 0]
        return np.argmax(logits[:, self._class_order], axis=1)

    def write_predictions(self, model: keras.Model, directory: Path) -> list[Path]:
        """Writes the GLUE server's files, e.g. `SST-2.tsv`, for the test sets present."""
        paths = []
        for task, split in self._submissions():
            title = task.files[split].submission
            predictions = self.predict(model, self._tokens(task, split), f"Predicting {title}")
            paths.append(directory / f"{title}.tsv")
            write_submission(paths[-1], task, self._read(task, split).indices, predictions)
        return paths

    def save_model(self, model: keras.Model, directory: Path, *, overwrite: bool = False) -> None:
        """Writes `BertForSequenceClassification` with the task's label names."""
        save_finetuned(
            model,
            directory,
            tokenizer=self._checkpoint.tokenizer,
            label_names=self.task.label_names,
            task=self.task.name,
            overwrite=overwrite,
        )

    def export_saved_model(
        self, model: keras.Model, directory: Path, *, overwrite: bool = False
    ) -> None:
        """Writes a SavedModel from the task's texts to label probabilities."""
        export_classifier(
            model,
            directory,
            tokenizer=self._checkpoint.tokenizer,
            label_names=self.task.label_names,
            text_inputs=self.task.tfds_texts,
            max_length=self._max_length,
            overwrite=overwrite,
        )


def _logits_of(model: keras.Model) -> Forward:
    def forward(inputs: Mapping[str, Tensor]) -> Tensor:
        return model(inputs)["logits"]

    return forward


def write_submission(path: Path, task: GlueTask, indices: IntArray, predictions: Array) -> None:
    """Writes one prediction file for the GLUE server.

    Args:
        path: The file, named as the server expects (`SplitFile.submission`).
        task: The task, for its label spellings.
        indices: GLUE's example numbers, `[n]`.
        predictions: Class numbers in the task's order, or scores, `[n]`; scores are
            clipped to the range of the task.
    """
    if task.is_regression:
        values = [f"{value:.3f}" for value in np.clip(predictions, MIN_SCORE, MAX_SCORE)]
    else:
        values = [task.labels[int(value)][1] for value in predictions]
    rows = [f"{index}\t{value}\n" for index, value in zip(indices, values, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "index\tprediction\n" + "".join(rows))
