"""What the kept students of a comparison are worth downstream."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.evaluation.finetuning import finetune
from etd_tf.jobs.compare_arm import student_folder
from etd_tf.jobs.compare_study import Study
from etd_tf.jobs.compare_tasks import DownstreamOptions, task_metric
from etd_tf.jobs.compare_types import RunSpec
from etd_tf.jobs.evaluate import STS_PROBE, EvaluationOptions, make_experiment
from etd_tf.reporting.comparison_runs import ArmRun, TaskScores
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import read_json_object
from etd_tf.tasks.glue_data import load_glue
from etd_tf.tasks.glue_tasks import glue_task
from etd_tf.tasks.probe import sts_probe

SCORES_FILE = "downstream.json"
_TEACHER = "teacher"
_LENGTH = 128


def add_scores(study: Study, spec: RunSpec, run: ArmRun) -> ArmRun:
    """Scores a finished run's students on every task; known scores are not made again.

    Args:
        study: The comparison.
        spec: The run.
        run: Its result.

    Returns:
        The result with scores.
    """
    options = study.options
    found = {}
    for task in options.downstream.tasks:
        percents = options.snapshots if task == STS_PROBE else options.downstream.finetune_at
        steps = sorted({options.step_of(percent) for percent in percents})
        points = [(step, _score(study, spec, task, step)) for step in steps]
        found[task] = TaskScores(task_metric(task), tuple(points))
    return dataclasses.replace(run, downstream=found)


def teacher_scores(study: Study) -> dict[str, float]:
    """Scores the teacher on the tasks that need no training.

    Args:
        study: The comparison.

    Returns:
        Scores by task.
    """
    if STS_PROBE not in study.options.downstream.tasks:
        return {}
    return {
        STS_PROBE: _known_score(
            *(study, study.folder / "teacher.json", STS_PROBE, _TEACHER),
            lambda: _probe(study.options.downstream, study.teacher),
        )
    }


def _score(study: Study, spec: RunSpec, task: str, step: int) -> float:
    run_dir = study.folder / spec.folder
    return _known_score(
        *(study, run_dir / SCORES_FILE, task, str(step)),
        lambda: _measure(study.options.downstream, task, student_folder(run_dir, step)),
    )


def _known_score(
    study: Study, path: Path, task: str, model: str, measure: Callable[[], float]
) -> float:
    """A score out of a file, measured now unless it is there under the same settings."""
    known: dict[str, Any] = read_json_object(path) if path.exists() else {}
    scores, settings = known.get(task), _settings(study, task)
    if not isinstance(scores, dict):
        scores = known[task] = {}
    entry = scores.get(model)
    if not isinstance(entry, dict) or entry.get("settings") != settings:
        entry = scores[model] = {"score": measure(), "settings": settings}
        write_atomically(path, json.dumps(known, indent=2) + "\n")
    return float(entry["score"])


def _settings(study: Study, task: str) -> dict[str, Any]:
    """What a score depends on besides the model, as JSON reads it back."""
    values: dict[str, Any] = {"data": study.task_data[task]}
    if task != STS_PROBE:
        values |= dataclasses.asdict(study.options.downstream.finetuning(task))
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def _measure(options: DownstreamOptions, task: str, folder: Path) -> float:
    student = load_checkpoint(folder)
    if task == STS_PROBE:
        return _probe(options, student)
    data_dir = options.data_dir(task)
    evaluation = EvaluationOptions((str(folder),), task=task, data_dir=data_dir)
    experiment = make_experiment(evaluation, student)
    result = finetune(student, experiment, options.finetuning(task))
    first_split = next(iter(result.summary))  # of two, MNLI's matched one
    return float(result.summary[first_split][experiment.metric]["mean"])


def _probe(options: DownstreamOptions, checkpoint: Checkpoint) -> float:
    examples = load_glue(glue_task("stsb"), "dev", options.glue_dir)
    length = min(_LENGTH, checkpoint.config.max_positions)
    return sts_probe(checkpoint, examples, max_length=length)
