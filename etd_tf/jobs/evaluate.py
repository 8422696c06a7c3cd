"""Evaluating a model: fine-tuning, official metrics, similarity probe and benchmark."""

import dataclasses
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.baseline import Baselines, baseline_values
from etd_tf.evaluation.experiment import Experiment, Scores, shares_kept
from etd_tf.evaluation.finetuned import FinetunedModel, load_finetuned
from etd_tf.evaluation.finetuning import FinetuneResult, finetune
from etd_tf.evaluation.latency import ModelCost, benchmark_models
from etd_tf.evaluation.options import PAGE_FILE, PREDICTIONS_DIR
from etd_tf.evaluation.run_record import RunRecord
from etd_tf.jobs.task_options import EvaluationOptions
from etd_tf.reporting.evaluation_page import write_evaluation_page
from etd_tf.storage.holding import hold
from etd_tf.storage.json_files import write_json
from etd_tf.tasks import ScoredTask, Task, TrainedTask

BENCHMARK_FILE = "benchmark.json"


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found out; fields are None where they were not asked for.

    Attributes:
        task: The task; None for the benchmark alone.
        zero_shot: Metrics by model, of a task without training.
        finetuned: Fine-tuning and its scores.
        scores: By split and metric, of a model that was fine-tuned before.
        baseline: What answers that do not look at the example reach, of the task.
        teacher: Scores by split and metric of the fine-tuned teacher.
        costs: Size and speed by model.
    """

    task: Task | None
    zero_shot: dict[str, Scores] | None = None
    finetuned: FinetuneResult | None = None
    scores: dict[str, Scores] | None = None
    baseline: Baselines = dataclasses.field(default_factory=dict)
    teacher: dict[str, Scores] | None = None
    costs: dict[str, ModelCost] | None = None


def run_evaluation(options: EvaluationOptions) -> EvaluationResult:
    """Runs an evaluation.

    Raises:
        InputError: A model or file cannot be used, or `output_dir` holds another run.
        DivergenceError: No learning rate trains without diverging.
    """
    if options.output_dir is None:
        return _evaluate(options)
    _check_directory(options.output_dir, options)
    with hold(options.output_dir):
        _check_directory(options.output_dir, options)
        return _evaluate(options)


def _check_directory(path: Path, options: EvaluationOptions) -> None:
    if path.is_file():
        raise InputError(f"output_dir={path} is a file; choose a directory.")
    benchmark = path / BENCHMARK_FILE
    # A benchmark alone has no other record that would protect an earlier one.
    if benchmark.exists() and not options.task and not options.overwrite:
        raise InputError(
            f"{benchmark} exists already. Choose another directory or pass overwrite=True."
        )


def _evaluate(options: EvaluationOptions) -> EvaluationResult:
    task = options.find_task()
    result = EvaluationResult(task)
    checkpoints: dict[str, Checkpoint] = {}
    if isinstance(task, TrainedTask) and options.finetuned_teacher:
        scores = _load(options.finetuned_teacher, task).scores()
        result = dataclasses.replace(result, teacher=scores)
    if isinstance(task, TrainedTask) and options.finetune is None:
        ready = _load(options.models[0], task)
        checkpoints = {options.models[0]: ready.model.checkpoint}
        result = _score(options, task, ready, result)
    else:
        checkpoints = {name: load_checkpoint(name) for name in options.models}
        if isinstance(task, ScoredTask):
            result = dataclasses.replace(result, zero_shot=_zero_shot(options, task, checkpoints))
        elif isinstance(task, TrainedTask) and options.finetune is not None:
            (checkpoint,) = checkpoints.values()
            experiment = task.experiment(checkpoint)
            experiment.show_examples = options.show_examples
            finetuned = finetune(
                checkpoint,
                experiment,
                options.finetune,
                output_dir=options.output_dir,
                overwrite=options.overwrite,
                teacher=result.teacher,
            )
            result = dataclasses.replace(result, finetuned=finetuned)
    if isinstance(task, TrainedTask) and options.output_dir is not None:
        write_evaluation_page(options.output_dir)
    if options.benchmark:
        costs = benchmark_models(checkpoints)
        if options.output_dir is not None:
            values = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
            write_json(options.output_dir / BENCHMARK_FILE, values)
        result = dataclasses.replace(result, costs=costs)
    return result


def _zero_shot(
    options: EvaluationOptions, task: ScoredTask, checkpoints: dict[str, Checkpoint]
) -> dict[str, Scores]:
    """Scores models as they are."""
    task.fingerprint()  # bad data is refused before the directory is touched
    record = _open_record(options, task)
    scores = task.score(checkpoints)
    values = {name: found[task.metric] for name, found in scores.items()}
    outcome = {"split": task.split, "metric": task.metric, "values": values, "scores": scores}
    record.finish({task.name.replace("-", "_"): outcome})
    return scores


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A model that is fine-tuned for a task, with the task's data in its tokens."""

    model: FinetunedModel
    experiment: Experiment

    def scores(self) -> dict[str, Scores]:
        return self.experiment.evaluate(self.model.model)


def _load(source: str, task: TrainedTask) -> _Ready:
    model = load_finetuned(source)
    model.check_head(task.head, task.name)
    return _Ready(model, task.experiment(model.checkpoint, model.label_names))


def _score(
    options: EvaluationOptions, task: TrainedTask, ready: _Ready, result: EvaluationResult
) -> EvaluationResult:
    """Scores a fine-tuned model and writes its predictions."""
    record = _open_record(options, task, PREDICTIONS_DIR, PAGE_FILE)
    ready.experiment.show_examples = options.show_examples
    scores = ready.scores()
    record.details = ready.experiment.details()
    if options.output_dir is not None:
        ready.experiment.write_predictions(ready.model.model, record.output(PREDICTIONS_DIR))
    baseline = ready.experiment.baseline()
    outcome: dict[str, Any] = {"scores": scores, "baseline": baseline_values(baseline)}
    if result.teacher is not None:
        kept = shares_kept(scores, result.teacher, task.metric)
        outcome |= {"teacher": result.teacher, "kept": kept}
    record.finish(outcome)
    return dataclasses.replace(result, scores=scores, baseline=baseline)


def _open_record(options: EvaluationOptions, task: Task, *outputs: str) -> RunRecord:
    settings = {"task": options.task, "models": options.models, "data_dir": task.source}
    return RunRecord.open(
        options.output_dir, settings, overwrite=options.overwrite, outputs=outputs
    )
