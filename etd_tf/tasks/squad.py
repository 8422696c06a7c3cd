"""SQuAD: fine-tuning data, scores and prediction files."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.evaluation.classifiers import SpanClassifier
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.finetuned import save_finetuned
from etd_tf.evaluation.inference import Forward, compile_forward, run_sequences
from etd_tf.evaluation.serving import export_question_answerer
from etd_tf.evaluation.training import TrainingSet, span_loss
from etd_tf.storage.atomic import write_atomically
from etd_tf.tasks.squad_data import SQUAD_SPLITS, SquadDataset, load_squad
from etd_tf.tasks.squad_metrics import score_predictions
from etd_tf.tasks.squad_spans import Answers, SpanOptions, choose_answers
from etd_tf.tasks.squad_windows import (
    WindowOptions,
    Windows,
    answer_positions,
    make_windows,
)
from etd_tf.types import IntArray, Tensor


class SquadExperiment(Experiment):
    """One version of SQuAD, tokenised for one model.

    Args:
        version: `"v1.1"` or `"v2.0"`.
        source: Directory of the official files, or `tfds[:DATA_DIR]`.
        checkpoint: The model, for its tokenizer and sizes.
        windows: Window length and stride; default: the usual 384 and 128.
        spans: How answers are chosen; default: as in BERT's own script.

    Raises:
        InputError: A file is missing or malformed, or windows do not fit the model.
    """

    metric = "f1"

    def __init__(
        self,
        version: str,
        source: str | Path,
        checkpoint: Checkpoint,
        *,
        windows: WindowOptions | None = None,
        spans: SpanOptions | None = None,
    ) -> None:
        self.name = f"squad/{version}"
        self.loss = span_loss
        self._version, self._source, self._checkpoint = version, source, checkpoint
        self._window_options = windows or WindowOptions()
        self._span_options = spans or SpanOptions()
        self._splits: dict[str, tuple[SquadDataset, Windows]] = {}
        self._forward: tuple[keras.Model, Forward] | None = None
        self._split("dev")  # refuses a bad file before any training

    def _split(self, split: str) -> tuple[SquadDataset, Windows]:
        """Reads a file and cuts it into windows, once."""
        if split not in self._splits:
            dataset = load_squad(self._version, split, self._source)
            windows = make_windows(self._checkpoint, dataset, self._window_options)
            self._splits[split] = (dataset, windows)
        return self._splits[split]

    def settings(self) -> dict[str, Any]:
        """The questions, and how windows are cut and answers chosen."""
        options = dataclasses.asdict(self._window_options) | dataclasses.asdict(self._span_options)
        data = {split: self._split(split)[0].fingerprint() for split in SQUAD_SPLITS}
        return {"source": str(self._source), "data": data, **options}

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
        answers = self.answer(model, dataset, windows, f"Evaluating SQuAD {self._version} dev")
        return {"dev": score_predictions(dataset, answers.predictions)}

    def answer(
        self, model: keras.Model, dataset: SquadDataset, windows: Windows, description: str
    ) -> Answers:
        """Answers every question of a dataset."""
        if self._forward is None or self._forward[0] is not model:
            self._forward = (model, compile_forward(_logits_of(model)))
        logits = run_sequences(self._forward[1], windows.sequences, description=description)
        return choose_answers(dataset, windows, logits, self._span_options)

    def write_predictions(self, model: keras.Model, directory: Path) -> list[Path]:
        """Writes what the official script reads, and the n-best answers of dev.

        `dev_predictions.json` maps ids to answers, `dev_nbest.json` to lists of answers
        with scores, and `dev_null_odds.json` (v2.0) to no-answer scores for
        `--na-prob-file`.
        """
        dataset, windows = self._split("dev")
        answers = self.answer(model, dataset, windows, f"Answering SQuAD {self._version} dev")
        contents: dict[str, Any] = {
            "dev_predictions": answers.predictions,
            "dev_nbest": {
                identity: [{"text": c.text, "score": c.score} for c in candidates]
                for identity, candidates in answers.num_best.items()
            },
        }
        if self._version != "v1.1":
            contents["dev_null_odds"] = answers.null_odds
        directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, values in contents.items():
            path = directory / f"{name}.json"
            write_atomically(path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
            paths.append(path)
        return paths

    def save_model(self, model: keras.Model, directory: Path, *, overwrite: bool = False) -> None:
        """Writes `BertForQuestionAnswering`."""
        save_finetuned(
            model,
            directory,
            tokenizer=self._checkpoint.tokenizer,
            task=self.name,
            overwrite=overwrite,
        )

    def export_saved_model(
        self, model: keras.Model, directory: Path, *, overwrite: bool = False
    ) -> None:
        """Writes a SavedModel from question and context to start and end logits."""
        export_question_answerer(
            model,
            directory,
            tokenizer=self._checkpoint.tokenizer,
            max_length=self._window_options.max_length,
            overwrite=overwrite,
        )


def _logits_of(model: keras.Model) -> Forward:
    def forward(inputs: Mapping[str, Tensor]) -> Tensor:
        outputs = model(inputs)
        return ops.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)

    return forward
