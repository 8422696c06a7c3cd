"""Evaluating a model: fine-tuning, official metrics, similarity probe and benchmark."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.benchmark import ModelCost, benchmark_models
from etd_tf.evaluation.experiment import Experiment, Scores
from etd_tf.evaluation.finetuned import FinetunedModel, load_finetuned
from etd_tf.evaluation.finetuning import FinetuneOptions, FinetuneResult, finetune
from etd_tf.evaluation.run_record import OUTPUTS, PREDICTIONS_DIR, RunRecord
from etd_tf.jobs.safeguards import check_spares_inputs
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.holding import hold
from etd_tf.tasks.glue import GlueExperiment
from etd_tf.tasks.glue_data import load_glue
from etd_tf.tasks.glue_tasks import glue_task
from etd_tf.tasks.probe import compare_sts
from etd_tf.tasks.squad import SquadExperiment
from etd_tf.tasks.squad_spans import SpanOptions
from etd_tf.tasks.squad_windows import WindowOptions

STS_PROBE = "sts-probe"
BENCHMARK_FILE = "benchmark.json"
_GLUE_LENGTH, _SQUAD_LENGTH = 128, 384


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """Settings of an evaluation.

    Attributes:
        models: Where the models are; anything `load_checkpoint` takes. Fine-tuning takes
            one, the probe and the benchmark any number, a teacher first.
        task: `STS_PROBE`, `glue/NAME`, `squad/VERSION`, or empty for the benchmark alone.
        data_dir: Directory of the task's files, or `tfds[:DATA_DIR]`.
        finetune: How to fine-tune; None scores a model that is fine-tuned already.
        max_length: Tokens of an example; None for the usual 128 (GLUE) and 384 (SQuAD),
            or the model's positions where these are fewer.
        doc_stride: Tokens between SQuAD windows.
        null_threshold: SQuAD v2.0's threshold for giving no answer.
        benchmark: Also measure sizes and latency.
        output_dir: Gets everything that is written; None writes nothing.
        overwrite: Replace an earlier run there.
    """

    models: tuple[str, ...]
    task: str = ""
    data_dir: str = ""
    finetune: FinetuneOptions | None = dataclasses.field(default_factory=FinetuneOptions)
    max_length: int | None = None
    doc_stride: int = 128
    null_threshold: float = 0.0
    benchmark: bool = False
    output_dir: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) != len(self.models):
            raise InputError(
                f"Models: {', '.join(self.models) or 'none'}. Name at least one, none twice."
            )
        if not self.task and not self.benchmark:
            raise InputError("There is nothing to do. Pass --task, --benchmark or both.")
        if self.task and not self.data_dir:
            flag = "--squad_dir" if self.task.startswith("squad/") else "--glue_dir"
            raise InputError(
                f"--task={self.task} needs its data: pass {flag}=DIR with the official files, or "
                f"{flag}=tfds to download them with TensorFlow Datasets."
            )
        if self.is_trained_task and len(self.models) > 1:
            raise InputError(
                f"--task={self.task} takes one model, received {', '.join(self.models)}. Run it "
                "once for each model."
            )
        if self.overwrite and self.output_dir is not None:
            for name in OUTPUTS:
                check_spares_inputs(self.output_dir / name, {"model": self.models})

    @property
    def is_trained_task(self) -> bool:
        """Whether the task needs a fine-tuned head."""
        return bool(self.task) and self.task != STS_PROBE


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found out; fields are None where they were not asked for.

    Attributes:
        task: The task.
        probe: Spearman correlation by model.
        finetuned: Fine-tuning and its scores.
        scores: By split and metric, of a model that was fine-tuned before.
        costs: Size and speed by model.
    """

    task: str
    probe: dict[str, float] | None = None
    finetuned: FinetuneResult | None = None
    scores: dict[str, Scores] | None = None
    costs: dict[str, ModelCost] | None = None


def run_evaluation(options: EvaluationOptions) -> EvaluationResult:
    """Runs an evaluation.

    Args:
        options: What to evaluate, and how.

    Returns:
        The result.

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
            f"{benchmark} exists already. Choose another directory or pass --overwrite."
        )


def _evaluate(options: EvaluationOptions) -> EvaluationResult:
    result = EvaluationResult(options.task)
    checkpoints: dict[str, Checkpoint] = {}
    if options.is_trained_task and options.finetune is None:
        model = load_finetuned(options.models[0])
        checkpoints = {options.models[0]: model.checkpoint}
        result = dataclasses.replace(result, scores=_score(options, model))
    else:
        checkpoints = {name: load_checkpoint(name) for name in options.models}
        if options.task == STS_PROBE:
            result = dataclasses.replace(result, probe=_probe(options, checkpoints))
        elif options.is_trained_task and options.finetune is not None:
            (checkpoint,) = checkpoints.values()
            finetuned = finetune(
                checkpoint,
                make_experiment(options, checkpoint),
                options.finetune,
                output_dir=options.output_dir,
                overwrite=options.overwrite,
            )
            result = dataclasses.replace(result, finetuned=finetuned)
    if options.benchmark:
        costs = benchmark_models(checkpoints)
        _write(options, BENCHMARK_FILE, {k: dataclasses.asdict(v) for k, v in costs.items()})
        result = dataclasses.replace(result, costs=costs)
    return result


def make_experiment(
    options: EvaluationOptions,
    checkpoint: Checkpoint,
    *,
    label_names: tuple[str, ...] | None = None,
) -> Experiment:
    """Reads and tokenises a task's data.

    Args:
        options: Task, data and lengths.
        checkpoint: The model that it is for.
        label_names: Class order of a model that is fine-tuned already.

    Returns:
        The experiment.

    Raises:
        InputError: The task is unknown, or its data cannot be used.
    """
    family, _, name = options.task.partition("/")
    length = _max_length(options, checkpoint, _SQUAD_LENGTH if family == "squad" else _GLUE_LENGTH)
    if family == "glue":
        return GlueExperiment(
            glue_task(name),
            options.data_dir,
            checkpoint,
            max_length=length,
            label_names=label_names,
        )
    if family == "squad":
        return SquadExperiment(
            name,
            options.data_dir,
            checkpoint,
            windows=WindowOptions(length, options.doc_stride),
            spans=SpanOptions(null_threshold=options.null_threshold),
        )
    raise InputError(
        f"Unknown task {options.task!r}. Tasks: {STS_PROBE}, glue/NAME, squad/v1.1, squad/v2.0."
    )


def _max_length(options: EvaluationOptions, checkpoint: Checkpoint, usual: int) -> int:
    if options.max_length is not None:
        return options.max_length
    return min(usual, checkpoint.config.max_positions)


def _probe(options: EvaluationOptions, checkpoints: dict[str, Checkpoint]) -> dict[str, float]:
    examples = load_glue(glue_task("stsb"), "dev", options.data_dir)
    record = _open_record(options)
    length = min(_max_length(options, one, _GLUE_LENGTH) for one in checkpoints.values())
    probe = compare_sts(checkpoints, examples, max_length=length)
    record.finish({"sts_probe": {"split": "dev", "metric": "spearman", "values": probe}})
    return probe


def _score(options: EvaluationOptions, model: FinetunedModel) -> dict[str, Scores]:
    """Scores a fine-tuned model and writes its predictions."""
    names = model.label_names if options.task.startswith("glue/") else None
    model.check_task(options.task)
    experiment = make_experiment(options, model.checkpoint, label_names=names)
    record = _open_record(options, PREDICTIONS_DIR)
    scores = experiment.evaluate(model.model)
    if options.output_dir is not None:
        experiment.write_predictions(model.model, record.output(PREDICTIONS_DIR))
    record.finish({"scores": scores})
    return scores


def _open_record(options: EvaluationOptions, *outputs: str) -> RunRecord:
    settings = {"task": options.task, "models": options.models, "data_dir": options.data_dir}
    return RunRecord.open(
        options.output_dir, settings, overwrite=options.overwrite, outputs=outputs
    )


def _write(options: EvaluationOptions, name: str, values: dict[str, Any]) -> None:
    if options.output_dir is not None:
        write_atomically(options.output_dir / name, json.dumps(values, indent=2) + "\n")
