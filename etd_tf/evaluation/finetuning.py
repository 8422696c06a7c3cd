"""Fine-tuning over learning rates and seeds, resumable after every training."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import DivergenceError
from etd_tf.evaluation.baseline import Baselines, baseline_values
from etd_tf.evaluation.classifiers import TaskModel, initial_parameters
from etd_tf.evaluation.experiment import Experiment, Scores, SplitScores, shares_kept
from etd_tf.evaluation.options import (
    MODEL_DIR,
    PAGE_FILE,
    PREDICTIONS_DIR,
    SAVED_MODEL_DIR,
    FinetuneOptions,
)
from etd_tf.evaluation.run_record import FINAL, HELD_OUT, SELECTION, Cell, RunRecord
from etd_tf.evaluation.training import FineTuner, Schedule, TrainingSet
from etd_tf.types import IntArray


@dataclasses.dataclass(frozen=True)
class FinetuneResult:
    """What a run found out.

    Attributes:
        learning_rate: The chosen one.
        cells: All trainings.
        summary: By split and metric: `mean`, `std` (None for one seed) and `values`
            over the seeds at the chosen learning rate.
        baseline: What answers that do not look at the example reach.
    """

    learning_rate: float
    cells: tuple[Cell, ...]
    summary: dict[str, dict[str, dict[str, Any]]]
    baseline: Baselines = dataclasses.field(default_factory=dict)

    def means(self) -> dict[str, Scores]:
        """Mean scores by split and metric."""
        return {
            split: {metric: value["mean"] for metric, value in metrics.items()}
            for split, metrics in self.summary.items()
        }


def finetune(
    checkpoint: Checkpoint,
    experiment: Experiment,
    options: FinetuneOptions,
    *,
    output_dir: str | Path | None = None,
    overwrite: bool = False,
    teacher: SplitScores | None = None,
) -> FinetuneResult:
    """Fine-tunes a model on a task and scores it.

    Args:
        checkpoint: The pre-trained encoder.
        experiment: The task.
        options: Settings.
        output_dir: Gets `results.json`, and of the first seed `model/` (a Hugging Face
            directory), `predictions/` and `saved_model/`. An interrupted run continues.
        overwrite: Start anew where `output_dir` holds a finished or another run.
        teacher: A teacher's scores, to be kept beside the model's.

    Raises:
        InputError: `output_dir` holds a finished or another run.
        DivergenceError: No learning rate trains without diverging.
    """
    settings = {
        "task": experiment.name,
        "model": checkpoint.source,
        "fingerprint": checkpoint.fingerprint(),
        **experiment.settings(),
        **dataclasses.asdict(options),
    }
    saved = (SAVED_MODEL_DIR,) if options.saved_model else ()
    outputs = (MODEL_DIR, PREDICTIONS_DIR, PAGE_FILE, *saved)
    record = RunRecord.open(output_dir, settings, overwrite=overwrite, outputs=outputs)
    result = Trainings(checkpoint, experiment, options, record).run()
    baseline = baseline_values(result.baseline)
    found = {"learning_rate": result.learning_rate, "summary": result.summary}
    if teacher is not None:
        kept = shares_kept(result.means(), teacher, experiment.metric)
        found |= {"teacher": teacher, "kept": kept}
    record.finish({**found, "baseline": baseline})
    return result


class Trainings:
    """Runs the trainings that a record does not have yet, with one compiled model.

    Args:
        checkpoint: The pre-trained encoder.
        experiment: The task.
        record: What is done; gets what is new.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        experiment: Experiment,
        options: FinetuneOptions,
        record: RunRecord,
    ) -> None:
        self._checkpoint, self._experiment = checkpoint, experiment
        self._options, self._record = options, record
        self._tuner: FineTuner | None = None
        self._model: TaskModel | None = None
        self._end = self._ends()[-1]
        self._curves: dict[str, list[float]] = {}

    def run(self) -> FinetuneResult:
        """Chooses the learning rate, trains with every seed and averages."""
        rate = self.choose_learning_rate()
        for seed in self._options.seeds:
            self.final(rate, seed)
        cells = tuple(self._record.cells)
        summary = summarize([cell.scores for cell in cells if cell.phase == FINAL])
        return FinetuneResult(rate, cells, summary, self._experiment.baseline())

    def choose_learning_rate(self) -> float:
        """Picks the rate, and where to end, with the best mean score on held-out examples."""
        rates, ends = self._options.learning_rates, self._ends()
        if len(rates) * len(ends) == 1:
            return rates[0]
        train, held_out = self._experiment.held_out_split()
        for rate in rates:
            for seed in self._options.seeds:
                if self._record.find(SELECTION, rate, seed) is None:
                    self._selection(rate, seed, train, held_out)
        means = {(rate, end): self._mean_score(rate, end) for rate in rates for end in ends}
        best = max(means, key=lambda one: means[one])
        if means[best] == -math.inf:
            raise DivergenceError(
                f"Every learning rate of {', '.join(f'{rate:g}' for rate in rates)} diverged. "
                "Pass lower ones."
            )
        self._end = best[1]
        return best[0]

    def _ends(self) -> tuple[str, ...]:
        """Names, in the record, of the held-out scores of all points where training may end."""
        return (HELD_OUT,)

    def _mean_score(self, rate: float, end: str) -> float:
        """Mean held-out score of a rate; minus infinity where a seed diverged."""
        cells = [self._record.find(SELECTION, rate, seed) for seed in self._options.seeds]
        scores = [cell.scores[end] for cell in cells if cell and end in cell.scores]
        if len(scores) < len(cells):
            return -math.inf
        return statistics.fmean(score[self._experiment.metric] for score in scores)

    def _selection(self, rate: float, seed: int, train: IntArray, held_out: IntArray) -> None:
        started = time.monotonic()
        data = self._training_set().take(train)
        loss, scores, found = None, {}, dict[str, Scores]()

        def score(end: str) -> None:
            model = self._tuner_model()
            found[end] = self._experiment.evaluate_training_rows(model, held_out)

        try:
            loss = self._train(data, rate, seed, "Choosing, ", score)
            scores = found
        except DivergenceError as error:
            logging.warning("%s", error)
        seconds = time.monotonic() - started
        self._record.add(Cell(SELECTION, rate, seed, loss, seconds, scores, self._taken_curves()))

    def final(self, rate: float, seed: int) -> None:
        """Trains on all data and scores on dev; the first seed's model is kept."""
        if self._record.find(FINAL, rate, seed) is not None:
            return
        started = time.monotonic()
        loss = self._train(self._training_set(), rate, seed, "")
        model = self._tuner_model()
        scores = self._experiment.evaluate(model)
        record, experiment = self._record, self._experiment
        if record.directory is not None and seed == self._options.seeds[0]:
            experiment.write_predictions(model, record.output(PREDICTIONS_DIR))
            experiment.save_model(model, record.output(MODEL_DIR), overwrite=True)
            if self._options.saved_model:
                experiment.export_saved_model(model, record.output(SAVED_MODEL_DIR), overwrite=True)
            record.details = experiment.details()
        seconds = time.monotonic() - started
        record.add(Cell(FINAL, rate, seed, loss, seconds, scores, self._taken_curves()))

    def _taken_curves(self) -> dict[str, list[float]]:
        """The curves of the training that ended."""
        curves, self._curves = self._curves, {}
        return curves

    def _training_set(self) -> TrainingSet:
        return self._experiment.training_set()

    def _train(
        self,
        data: TrainingSet,
        rate: float,
        seed: int,
        prefix: str,
        ended: Callable[[str], None] = lambda _: None,
    ) -> float:
        """Trains anew; calls `ended` with each of `_ends` that is reached."""
        model = self._tuner_model()
        if self._tuner is None:
            self._tuner = FineTuner(
                model, self._experiment.head.training_loss, weight_decay=self._options.weight_decay
            )
        model.set_parameters(initial_parameters(self._checkpoint, model, seed))
        what = self._describe(rate, seed, prefix)
        loss = self._tuner.fit(data, self._schedule(rate, seed), description=what)
        self._curves = {"training": self._tuner.curve}
        ended(HELD_OUT)
        return loss

    def _describe(self, rate: float, seed: int, prefix: str) -> str:
        done, all_ = len(self._record.cells), self._num_trainings()
        what = f"{prefix}training {done + 1} of {all_}: rate {rate:g}, seed {seed}"
        return what[0].upper() + what[1:]

    def _num_trainings(self) -> int:
        options = self._options
        only_ends = len(options.learning_rates) == 1 and len(self._ends()) > 1
        return options.num_trainings + len(options.seeds) * only_ends

    def _schedule(self, rate: float, seed: int) -> Schedule:
        options = self._options
        return Schedule(rate, seed, options.epochs, options.batch_size, options.warmup_ratio)

    def _tuner_model(self) -> TaskModel:
        """The model, built once."""
        if self._model is None:
            dtype = None if self._options.precision == "float32" else self._options.precision
            self._model = self._experiment.make_model(self._checkpoint, dtype)
        return self._model


def summarize(scores: Sequence[dict[str, Scores]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Averages scores over seeds.

    Args:
        scores: Of each seed: metric values by split and metric.

    Returns:
        By split and metric: `mean`, sample standard deviation `std` (None for one
        seed), and `values`.
    """
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for split, metrics in scores[0].items():
        summary[split] = {}
        for metric in metrics:
            values = [score[split][metric] for score in scores]
            summary[split][metric] = {
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "values": values,
            }
    return summary
