"""SQuAD: fine-tuning data, scores and prediction files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.evaluation.baseline import Baseline, Baselines
from etd_tf.evaluation.classifiers import SpanClassifier
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.training import TrainingSet
from etd_tf.storage.atomic import write_atomically
from etd_tf.tasks.squad import SquadV1
from etd_tf.tasks.squad_data import SQUAD_SPLITS, SquadDataset
from etd_tf.tasks.squad_metrics import score_predictions
from etd_tf.tasks.squad_spans import Answers, SpanOptions, choose_answers
from etd_tf.tasks.squad_windows import (
    WindowOptions,
    Windows,
    answer_positions,
    make_windows,
)
from etd_tf.types import IntArray


class SquadExperiment(Experiment):
    """One version of SQuAD, tokenised for one model.

    Args:
        checkpoint: The model, for its tokenizer and sizes.

    Raises:
        InputError: A file is missing or malformed, or windows do not fit the model.
    """

    head = SpanClassifier
    text_names = ("question", "context")

    def __init__(self, task: SquadV1, checkpoint: Checkpoint) -> None:
        length = task.length_for(checkpoint)
        super().__init__(checkpoint, name=task.name, metric=task.metric, max_length=length)
        self.task = task
        self._window_options = WindowOptions(self.max_length, task.doc_stride)
        self._span_options = SpanOptions(null_threshold=task.null_score)
        self._splits: dict[str, tuple[SquadDataset, Windows]] = {}
        self._split("dev")  # refuses a bad file before any training

    def _split(self, split: str) -> tuple[SquadDataset, Windows]:
        """Reads a file and cuts it into windows, once."""
        if split not in self._splits:
            dataset = self.task.read(split)
            windows = make_windows(self._checkpoint, dataset, self._window_options)
            self._splits[split] = (dataset, windows)
        return self._splits[split]

    def settings(self) -> dict[str, Any]:
        """The questions, and how windows are cut and answers chosen."""
        options = dataclasses.asdict(self._window_options) | dataclasses.asdict(self._span_options)
        data = {split: self._split(split)[0].fingerprint() for split in SQUAD_SPLITS}
        return {"source": self.task.source, "data": data, **options}

    def make_model(self, checkpoint: Checkpoint, dtype: Any = None) -> SpanClassifier:
        """Builds a span classifier."""
        return SpanClassifier(checkpoint.config, dtype=dtype)

    def training_set(self) -> TrainingSet:
        """All windows of the training file."""
        dataset, windows = self._split("train")
        return TrainingSet(windows.sequences, answer_positions(windows, dataset))

    def training_groups(self) -> IntArray:
        """The article of each window: questions on one paragraph help each other."""
        dataset, windows = self._split("train")
        articles = [dataset.articles[question.context] for question in dataset.questions]
        return np.asarray(articles)[windows.question]

    def evaluate_training_rows(self, model: keras.Model, rows: IntArray) -> Scores:
        """Scores a model on the questions of some training windows."""
        dataset, windows = self._split("train")
        questions = np.unique(windows.question[rows])
        part = dataset.take(dataset.questions[number] for number in questions)
        answers = self.answer(
            model,
            part,
            make_windows(self._checkpoint, part, self._window_options),
            "Evaluating held-out train",
        )
        return score_predictions(part, answers.predictions)

    def evaluate(self, model: keras.Model) -> dict[str, Scores]:
        """Scores a model on dev."""
        dataset, windows = self._split("dev")
        answers = self.answer(model, dataset, windows, f"Evaluating SQuAD {self.task.version} dev")
        return {"dev": score_predictions(dataset, answers.predictions)}

    def baseline(self) -> Baselines:
        """What no answer to every question reaches; of v1.1, which has one for each, 0."""
        dataset, _ = self._split("dev")
        scores = score_predictions(dataset, {question.id: "" for question in dataset.questions})
        answer = "answering no question"
        return {"dev": {name: Baseline(scores[name], answer) for name in self.task.metrics}}

    def answer(
        self, model: keras.Model, dataset: SquadDataset, windows: Windows, description: str
    ) -> Answers:
        """Answers every question of a dataset."""
        logits = self.run(model, windows.sequences, description)
        return choose_answers(dataset, windows, logits, self._span_options)

    def write_predictions(self, model: keras.Model, directory: Path) -> list[Path]:
        """Writes what the official script reads, and the n-best answers of dev.

        `dev_predictions.json` maps ids to answers, `dev_nbest.json` to lists of answers
        with scores, and `dev_null_odds.json` (v2.0) to no-answer scores for
        `--na-prob-file`.
        """
        dataset, windows = self._split("dev")
        answers = self.answer(model, dataset, windows, f"Answering SQuAD {self.task.version} dev")
        contents: dict[str, Any] = {
            "dev_predictions": answers.predictions,
            "dev_nbest": {
                identity: [{"text": c.text, "score": c.score} for c in candidates]
                for identity, candidates in answers.num_best.items()
            },
        }
        if self.task.version != "v1.1":
            contents["dev_null_odds"] = answers.null_odds
        directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, values in contents.items():
            path = directory / f"{name}.json"
            write_atomically(path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
            paths.append(path)
        return paths
