"""What the kept students of a comparison are worth downstream."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.evaluation.finetuning import finetune
from etd_tf.jobs.compare_arm import student_folder
from etd_tf.jobs.compare_study import Study
from etd_tf.jobs.compare_types import RunSpec
from etd_tf.reporting.comparison import ArmRun, TaskScores
from etd_tf.storage.json_files import read_json_object, write_json
from etd_tf.tasks import TASKS, ScoredTask, TrainedTask

SCORES_FILE = "downstream.json"
_TEACHER = "teacher"


def add_scores(study: Study, spec: RunSpec, run: ArmRun) -> ArmRun:
    """Scores a finished run's students on every task; known scores are not made again.

    Returns:
        The result with scores.
    """
    options = study.options
    found = {}
    for name in options.downstream.tasks:
        is_trained = isinstance(TASKS[name], TrainedTask)
        percents = options.downstream.finetune_at if is_trained else options.snapshots
        steps = sorted({options.step_of(percent) for percent in percents})
        points = [(step, _score(study, spec, name, step)) for step in steps]
        found[name] = TaskScores(TASKS[name].metric, tuple(points))
    return dataclasses.replace(run, downstream=found)


def teacher_scores(study: Study) -> dict[str, float]:
    """Scores the teacher on the tasks that need no training."""
    options = study.options.downstream
    return {
        name: _known_score(
            *(study, study.folder / "teacher.json", name, _TEACHER),
            functools.partial(_measure, study, name, study.teacher),
        )
        for name in options.tasks
        if isinstance(TASKS[name], ScoredTask)
    }


def _score(study: Study, spec: RunSpec, task: str, step: int) -> float:
    run_dir, last = study.folder / spec.folder, study.options.base.trainer.steps
    return _known_score(
        *(study, run_dir / SCORES_FILE, task, str(step)),
        lambda: _measure(study, task, load_checkpoint(student_folder(run_dir, step, last))),
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
        write_json(path, known)
    return float(entry["score"])


def _settings(study: Study, task: str) -> dict[str, Any]:
    """What a score depends on besides the model, as JSON reads it back."""
    values: dict[str, Any] = {"data": study.task_data[task]}
    if isinstance(TASKS[task], TrainedTask):
        values |= dataclasses.asdict(study.options.downstream.finetuning(task))
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def _measure(study: Study, name: str, model: Checkpoint) -> float:
    options = study.options.downstream
    task = options.task(name)
    if isinstance(task, ScoredTask):
        first = {_TEACHER: study.teacher} if task.least_models > 1 else {}
        return task.score({**first, name: model})[name][task.metric]
    if not isinstance(task, TrainedTask):
        raise TypeError(f"Task {name!r} is neither a TrainedTask nor a ScoredTask.")
    result = finetune(model, task.experiment(model), options.finetuning(name))
    first_split = next(iter(result.summary))  # of two, MNLI's matched one
    return float(result.summary[first_split][task.metric]["mean"])
