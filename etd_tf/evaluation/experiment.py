"""What fine-tuning needs to know about a task, whichever it is."""

import abc
from pathlib import Path
from typing import Any

import keras
import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import TaskModel
from etd_tf.evaluation.training import Loss, TrainingSet
from etd_tf.types import IntArray

Scores = dict[str, float]
"""Metric values by name."""

HELD_OUT_SHARE = 0.1
_HELD_OUT_SEED = 20_190_101  # the same split in every run, whatever its seeds


class Experiment(abc.ABC):
    """A task with its data, tokenised for one model.

    Attributes:
        name: As on the command line, e.g. `"glue/sst2"`.
        metric: The metric that ranks models, higher is better.
        loss: The training loss.
    """

    name: str
    metric: str
    loss: Loss

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

    @abc.abstractmethod
    def write_predictions(self, model: keras.Model, directory: Path) -> list[Path]:
        """Writes prediction files in the benchmark's own format; returns their paths."""

    @abc.abstractmethod
    def save_model(self, model: keras.Model, directory: Path, *, overwrite: bool = False) -> None:
        """Writes the fine-tuned model as a Hugging Face directory."""

    @abc.abstractmethod
    def export_saved_model(
        self, model: keras.Model, directory: Path, *, overwrite: bool = False
    ) -> None:
        """Writes the fine-tuned model as a SavedModel that takes text."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the data: source, content and lengths, as plain values."""

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
                "learning rate: they are too few, or all of one SQuAD article. Name one rate."
            )
        shuffled = np.random.default_rng(_HELD_OUT_SEED).permutation(names)
        held = shuffled[: max(round(HELD_OUT_SHARE * len(names)), 1)]
        is_held = np.isin(groups, held)
        return np.flatnonzero(~is_held), np.flatnonzero(is_held)
