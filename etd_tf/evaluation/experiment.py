"""What fine-tuning needs to know about a task, whichever it is."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.baseline import Baselines
from etd_tf.evaluation.classifiers import TaskModel
from etd_tf.evaluation.finetuned import match_labels, save_finetuned
from etd_tf.evaluation.inference import Forward, compile_forward, run_sequences
from etd_tf.evaluation.serving import export_finetuned
from etd_tf.evaluation.training import TrainingSet, WordTable
from etd_tf.tokenization.sequences import Sequences
from etd_tf.types import Array, IntArray

Scores = dict[str, float]
"""Metric values by name."""

SplitScores = Mapping[str, Scores]
"""Metric values by split and name."""


def shares_kept(student: SplitScores, teacher: SplitScores, metric: str) -> dict[str, float | None]:
    """A student's share of its teacher's score.

    Args:
        student: Its scores.
        teacher: The teacher's, of the same splits.
        metric: The metric that ranks models.

    Returns:
        The share by split; None where the teacher's score is not above 0.
    """
    return {
        split: scores[metric] / teacher[split][metric] if teacher[split][metric] > 0 else None
        for split, scores in student.items()
    }


HELD_OUT_SHARE = 0.1
_HELD_OUT_SEED = 20_190_101  # the same split in every run, whatever its seeds


class Experiment(abc.ABC):
    """A task with its data, tokenised for one model.

    Args:
        checkpoint: The model, for its tokenizer and sizes.
        name: The task's name.
        metric: Its metric that ranks models, higher is better.
        max_length: Tokens of an example.

    Attributes:
        head: The class of the task's models.
        label_names: Class names of the task in its order, where there are classes.
        class_order: For each of them its position among the model's logits.
        text_names: Names of the one or two texts for who serves the model.
        kept_name: What the fine-tuned model calls the task.
        show_examples: Examples with their text in `details`.
    """

    head: type[TaskModel]
    label_names: tuple[str, ...] = ()
    class_order: Sequence[int] = ()
    text_names: tuple[str, ...] = ("text",)

    def __init__(self, checkpoint: Checkpoint, *, name: str, metric: str, max_length: int) -> None:
        self.name = self.kept_name = name
        self.metric, self.max_length = metric, max_length
        self._checkpoint = checkpoint
        self.show_examples = 0
        self._forward: tuple[keras.Model, Forward] | None = None

    def take_labels(self, names: tuple[str, ...], model_names: Sequence[str] | None) -> None:
        """Takes the task's classes, and their order in a model that is fine-tuned already.

        Raises:
            InputError: The model has other classes.
        """
        self.label_names = names
        self.class_order = match_labels(names if model_names is None else model_names, names)

    def run(self, model: keras.Model, sequences: Sequences, description: str) -> list[Array]:
        """Computes a model's logits; compiled once a model.

        Returns:
            Of each sequence what `head.stack` makes of the outputs.
        """
        if self._forward is None or self._forward[0] is not model:
            stack = self.head.stack
            self._forward = (model, compile_forward(lambda inputs: stack(model(inputs))))
        return run_sequences(self._forward[1], sequences, description=description)

    @abc.abstractmethod
    def make_model(self, checkpoint: Checkpoint, dtype: Any = None) -> TaskModel:
        """Builds the task model of the checkpoint's sizes, with random weights."""

    @abc.abstractmethod
    def training_set(self) -> TrainingSet:
        """All training examples."""

    @abc.abstractmethod
    def training_groups(self) -> IntArray:
        """Group of each training example, `[n]`: a held-out split takes whole groups."""

    @abc.abstractmethod
    def evaluate_training_rows(self, model: keras.Model, rows: IntArray) -> Scores:
        """Scores a model on training examples that it was not trained on."""

    @abc.abstractmethod
    def evaluate(self, model: keras.Model) -> dict[str, Scores]:
        """Scores a model on every evaluation split."""

    def by_token(self, values: Mapping[str, Array]) -> Mapping[str, Array | WordTable]:
        """Gives training examples what is known of them.

        Args:
            values: Arrays by name, a row an example; of a task of words a row a word.

        Returns:
            The same, in the form of a training set's labels.
        """
        return values

    def details(self) -> dict[str, Any]:
        """What the model that was evaluated last got right and wrong, by split.

        Returns:
            Plain values: with classes `classes`, their precision, recall, F1 and support by
            name, and `confusion`, a row a class of rows and a column a predicted one, in the
            order of `labels`; with `show_examples` as many `examples`, the worst first.
        """
        return {}

    def baseline(self) -> Baselines:
        """What answers that do not look at the example reach; empty where nobody knows."""
        return {}

    @abc.abstractmethod
    def write_predictions(self, model: keras.Model, directory: Path) -> list[Path]:
        """Writes prediction files in the benchmark's own format; returns their paths."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the data: source, content and lengths, as plain values."""

    def save_model(self, model: TaskModel, directory: Path, *, overwrite: bool = False) -> None:
        """Writes the fine-tuned model as a Hugging Face directory."""
        save_finetuned(
            model,
            directory,
            tokenizer=self._checkpoint.tokenizer,
            label_names=self.label_names,
            task=self.kept_name,
            overwrite=overwrite,
        )

    def export_saved_model(
        self, model: TaskModel, directory: Path, *, overwrite: bool = False
    ) -> None:
        """Writes the fine-tuned model as a SavedModel that takes text."""
        export_finetuned(
            model,
            directory,
            tokenizer=self._checkpoint.tokenizer,
            label_names=self.label_names,
            text_inputs=self.text_names,
            max_length=self.max_length,
            overwrite=overwrite,
        )

    def held_out_split(self) -> tuple[IntArray, IntArray]:
        """Splits the training examples, the same way in every run.

        Returns:
            Rows to train on, and rows (about a tenth) to choose settings on.

        Raises:
            InputError: The examples are too few, or all of one group.
        """
        groups = self.training_groups()
        names = np.unique(groups)
        if len(names) < 2:
            raise InputError(
                f"{self.name}: the {len(groups)} training examples cannot be split to choose a "
                "learning rate: they are too few, or all of one article. Name one rate."
            )
        shuffled = np.random.default_rng(_HELD_OUT_SEED).permutation(names)
        held = shuffled[: max(round(HELD_OUT_SHARE * len(names)), 1)]
        is_held = np.isin(groups, held)
        return np.flatnonzero(~is_held), np.flatnonzero(is_held)
