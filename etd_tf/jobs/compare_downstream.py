"""What the kept students of a comparison are worth downstream."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.data.glue import load_glue
from etd_tf.data.glue_tasks import glue_task
from etd_tf.evaluation.finetuning import finetune
from etd_tf.evaluation.probe import sts_probe
from etd_tf.files import write_atomically
from etd_tf.jobs.compare_arm import student_folder
from etd_tf.jobs.compare_study import Study
from etd_tf.jobs.compare_tasks import DownstreamOptions, task_metric
from etd_tf.jobs.compare_types import RunSpec
from etd_tf.jobs.evaluate import STS_PROBE, EvaluationOptions, make_experiment
from etd_tf.modeling.config import read_json_object
from etd_tf.reporting.comparison_runs import ArmRun, TaskScores

SCORES_FILE = "downstream.json"
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
    path = study.folder / "teacher.json"
    known = read_json_object(path) if path.exists() else {}
    if STS_PROBE not in known:
        known[STS_PROBE] = _probe(study.options.downstream, study.teacher)
        write_atomically(path, json.dumps(known, indent=2) + "\n")
    return {STS_PROBE: float(known[STS_PROBE])}


def _score(study: Study, spec: RunSpec, task: str, step: int) -> float:
    """A score, measured now unless it is known under the same settings."""
    run_dir, options = study.folder / spec.folder, study.options.downstream
    path = run_dir / SCORES_FILE
    known: dict[str, Any] = read_json_object(path) if path.exists() else {}
    scores, settings = known.setdefault(task, {}), _settings(options, task)
    entry = scores.get(str(step))
    if not isinstance(entry, dict) or entry.get("settings") != settings:
        score = _measure(options, task, student_folder(run_dir, step))
        entry = scores[str(step)] = {"score": score, "settings": settings}
        write_atomically(path, json.dumps(known, indent=2) + "\n")
    return float(entry["score"])


def _settings(options: DownstreamOptions, task: str) -> dict[str, Any]:
    """What a score depends on besides student and data, as JSON reads it back."""
    if task == STS_PROBE:
        return {}
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(options.finetuning(task))))
    return values


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
