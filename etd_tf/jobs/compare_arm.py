"""The runs of a comparison: initialised, distilled, its curve and its students kept."""

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import save_checkpoint
from etd_tf.distillation import Trainer, fit_together
from etd_tf.errors import DivergenceError, InputError, input_errors
from etd_tf.extraction.starts import Amount, InitialStudent, sample_size
from etd_tf.jobs.compare_study import Study
from etd_tf.jobs.compare_types import RunSpec
from etd_tf.jobs.costs import start_flops, training_flops
from etd_tf.jobs.distill import finished_student, make_trainer
from etd_tf.jobs.inputs import TrainingText
from etd_tf.reporting.comparison_runs import ArmRun, as_number
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import read_json_object
from etd_tf.training import TrainResult
from etd_tf.training.metrics_log import read_metrics

RESULT_FILE = "arm.json"
"""The last file that a run's training writes; its presence marks a finished one."""

_METRICS, _CHECKPOINTS, _STUDENTS = "metrics.jsonl", "checkpoints", "students"


def student_folder(run_dir: Path, step: int) -> Path:
    """Where the student after a step is kept, if it is one of those that are."""
    return run_dir / _STUDENTS / f"step-{step:08d}"


def load_run(study: Study, spec: RunSpec) -> ArmRun | None:
    """Reads a finished run.

    Args:
        study: The comparison.
        spec: The run.

    Returns:
        The run without downstream scores; None where it is not finished.

    Raises:
        InputError: Its result file is damaged.
    """
    path = study.folder / spec.folder / RESULT_FILE
    if not path.exists():
        return None
    values = read_json_object(path)
    try:
        curve = tuple((int(step), as_number(loss)) for step, loss in values["curve"])
        fields = {name: int(values[name]) for name in ("steps", "step_flops", "scoring_flops")}
        if not curve:
            raise ValueError("no curve")
        seconds = float(values["seconds"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path} is damaged ({error!r}). Remove {path.parent} to run it again."
        ) from error
    return _arm_run(spec, curve=curve, seconds=seconds, **fields)


def run_arms(study: Study, specs: Sequence[RunSpec]) -> list[ArmRun | DivergenceError]:
    """Makes runs together, or continues them exactly where they were interrupted.

    Args:
        study: The comparison.
        specs: The runs, one of the groups of `CompareOptions.groups`.

    Returns:
        For each the finished run without downstream scores, or the error that ended it.

    Raises:
        Interrupted: A signal ended the training; the same call continues it.
    """
    options = [study.options.distill_options(spec, study.folder) for spec in specs]
    for one in options:
        one.output_dir.mkdir(parents=True, exist_ok=True)
    initials = [_begin(study, spec) for spec in specs]
    masking_rate = options[0].resolve_masking(study.records)
    text = TrainingText(study.records, study.teacher, masking_rate, options[0].trainer)
    trainers = [
        make_trainer(one, study.teacher, initial, text, study.strategy)
        for one, initial in zip(options, initials, strict=True)
    ]
    with input_errors():
        results = fit_together(
            trainers,
            text.batches,
            text.held_out(study.options.held_out_sequences),
            on_evaluate=[
                functools.partial(_keep, study, *pair) for pair in zip(specs, trainers, strict=True)
            ],
        )
    return [
        result if isinstance(result, DivergenceError) else _finish(study, spec, initial, result)
        for spec, initial, result in zip(specs, initials, results, strict=True)
    ]


def _begin(study: Study, spec: RunSpec) -> InitialStudent:
    work = study.work(spec)
    return work.options.start.make(work)


def _finish(study: Study, spec: RunSpec, initial: InitialStudent, training: TrainResult) -> ArmRun:
    """Writes a run's result and removes what only its continuation would need."""
    run_dir = study.folder / spec.folder
    run = _arm_run(
        spec,
        steps=training.steps,
        step_flops=_step_flops(study, spec),
        scoring_flops=_start_flops(study, spec, initial),
        curve=_read_curve(run_dir),
        seconds=training.seconds + sum(initial.seconds.values()),
    )
    values = {name: getattr(run, name) for name in _SAVED}
    write_atomically(run_dir / RESULT_FILE, json.dumps(values, indent=2) + "\n")
    for folder in (_CHECKPOINTS, *study.options.extraction(spec.arm).start.keeps):
        shutil.rmtree(run_dir / folder, ignore_errors=True)
    return run


_SAVED = (
    *("loss", "student", "arm", "seed", "steps"),
    *("step_flops", "scoring_flops", "curve", "seconds"),
)


def _keep(study: Study, spec: RunSpec, trainer: Trainer, step: int) -> None:
    options = study.options
    if step in map(options.step_of, options.snapshots):
        student = finished_student(
            trainer.distiller.student, study.configs[spec], options.base.teacher
        )
        folder = student_folder(study.folder / spec.folder, step)
        save_checkpoint(student, folder, overwrite=True)


def _step_flops(study: Study, spec: RunSpec) -> int:
    return training_flops(
        study.teacher.config,
        study.configs[spec],
        sequences=study.options.base.trainer.batch_size,
        sequence_length=study.records.sequence_length,
    )


def _start_flops(study: Study, spec: RunSpec, initial: InitialStudent) -> int:
    options = study.options.distill_options(spec, study.folder)
    size = sample_size(study.records, options.extraction)
    flops = start_flops(
        *(options, study.teacher, study.configs[spec]),
        amount=Amount(size, study.records.sequence_length),
        scores=initial.scores,
    )
    return sum(flops.values())


def _read_curve(run_dir: Path) -> tuple[tuple[int, float], ...]:
    lines = read_metrics(run_dir / _METRICS)
    return tuple(
        (line["step"], as_number(line.get("loss")))
        for line in lines
        if line.get("split") == "validation"
    )


def _arm_run(spec: RunSpec, **fields: Any) -> ArmRun:
    return ArmRun(loss=spec.loss, student=str(spec.size), arm=spec.arm, seed=spec.seed, **fields)
