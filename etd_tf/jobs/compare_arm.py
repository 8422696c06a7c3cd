"""The runs of a comparison: runs of etd_distill that share teacher, scores and batches."""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

from etd_tf.checkpoints import save_checkpoint
from etd_tf.distillation import Trainer, fit_together
from etd_tf.errors import DivergenceError, input_errors
from etd_tf.extraction.starts import InitialStudent
from etd_tf.jobs.compare_runs import load_run
from etd_tf.jobs.compare_study import Study
from etd_tf.jobs.compare_types import RunSpec
from etd_tf.jobs.distill import (
    begin_run,
    finished_student,
    make_trainer,
    training_text,
    workspace_of,
)
from etd_tf.jobs.distill_types import DistillOptions, DistillResult
from etd_tf.jobs.outputs import STUDENT, measure_latencies, write_outputs
from etd_tf.reporting.comparison import ArmRun
from etd_tf.storage.workspace import Workspace
from etd_tf.text.records import RecordSet
from etd_tf.training import TrainResult


@dataclasses.dataclass(frozen=True)
class _Arm:
    """A run that was begun: its settings, its directory and its student before the first step."""

    spec: RunSpec
    options: DistillOptions
    run: Workspace
    initial: InitialStudent


def student_folder(run_dir: Path, step: int, last: int) -> Path:
    """Where the student after a step is kept, if it is one of those that are."""
    finished = run_dir / STUDENT
    if step == last and finished.is_dir():  # earlier versions kept it with the others
        return finished
    return run_dir / "students" / f"step-{step:08d}"


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
    with contextlib.ExitStack() as held:
        arms = [_begin(study, spec, held) for spec in specs]
        options = arms[0].options
        text = training_text(options, study.teacher, study.records, study.strategy)
        trainers = [
            make_trainer(arm.options, study.teacher, arm.initial, text, study.strategy)
            for arm in arms
        ]
        with input_errors():
            results = fit_together(
                trainers,
                text.batches,
                text.held_out(options.held_out_sequences),
                on_evaluate=[
                    functools.partial(_keep, study, *pair)
                    for pair in zip(specs, trainers, strict=True)
                ],
            )
        return [
            result
            if isinstance(result, DivergenceError)
            else _finish(study, arm, trainer, text.records, result)
            for arm, trainer, result in zip(arms, trainers, results, strict=True)
        ]


def _begin(study: Study, spec: RunSpec, held: contextlib.ExitStack) -> _Arm:
    options = study.options.distill_options(spec, study.folder)
    run = held.enter_context(workspace_of(options).open())
    work = begin_run(options, run, study.teacher, study.configs[spec], study.records)
    work = study.share_scores(work)
    return _Arm(spec, options, run, work.options.start.make(work))


def _finish(
    study: Study, arm: _Arm, trainer: Trainer, records: RecordSet, training: TrainResult
) -> ArmRun:
    """Writes what a run leaves behind and removes what only its continuation would need."""
    config, folder = study.configs[arm.spec], arm.run.path
    student = finished_student(trainer.distiller, config, arm.options.teacher)
    if config not in study.latencies:
        length = study.records.sequence_length
        study.latencies[config] = measure_latencies(study.teacher, student, length)
    found = (
        None if study.fidelity is None else study.fidelity.facts(student, arm.initial.checkpoint)
    )
    made = (student, arm.initial, records, training, found)
    result = DistillResult(folder, study.teacher, *made)
    write_outputs(arm.options, result, study.latencies[config])
    for name in ("checkpoints", *arm.options.extraction.start.keeps):
        shutil.rmtree(folder / name, ignore_errors=True)
    return load_run(folder)


def _keep(study: Study, spec: RunSpec, trainer: Trainer, step: int) -> dict[str, float]:
    """Keeps a student that is to be kept, and says how faithful it is."""
    options, last = study.options, study.options.base.trainer.steps
    if step < last and step in map(options.step_of, options.snapshots):
        student = finished_student(trainer.distiller, study.configs[spec], options.base.teacher)
        folder = student_folder(study.folder / spec.folder, step, last)
        save_checkpoint(student, folder, overwrite=True)
    fidelity = study.fidelity
    return {} if fidelity is None else fidelity.log_values(trainer.distiller)
