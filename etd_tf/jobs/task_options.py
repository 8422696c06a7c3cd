"""Settings of the jobs that need a task; apart, as other commands need not wait for the tasks."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etd_tf import tasks
from etd_tf.errors import InputError
from etd_tf.evaluation.options import OUTPUTS, FinetuneOptions
from etd_tf.evaluation.stages import STATES, TransferOptions
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.options import StudentSize
from etd_tf.jobs.safeguards import Inputs, check_spares_inputs
from etd_tf.settings import MISSING, Settings, options_of, part, setting, settings_of
from etd_tf.storage.home import DEFAULT_CACHE


def transfer_tasks() -> dict[str, tasks.Task]:
    """The tasks on which a fine-tuned model is distilled, by name."""
    return {n: task for n, task in tasks.TASKS.items() if isinstance(task, tasks.TrainedTask)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Settings):
    """Settings of an evaluation.

    Attributes:
        finetune: How to fine-tune; None scores a model that is fine-tuned already.

    Raises:
        InputError: Models, task and data do not fit, or a value is out of range.
    """

    title = "Task"

    models: tuple[str, ...] = setting(
        MISSING,
        "A directory made by etd_distill or etd_extract, or anything that etd_distill takes as "
        "its teacher. Tasks without training and the benchmark take several, a teacher first.",
        flag="model",
        group="Model",
        some=True,
        distinct=True,
    )
    finetuned_teacher: str | None = setting(
        None,
        "Of tasks with training: a model that is fine-tuned for it, to compare with.",
        flag="",
    )
    task: str = setting(
        "", "What is measured; AX comes with glue/mnli.", choices=lambda: tasks.TASKS
    )
    task_options: Mapping[str, Any] = options_of(lambda: tasks.TASKS, chosen="task")
    benchmark: bool = setting(
        False,
        "Measure parameters, FLOPs, size on disk, and latency at 128 tokens, or as many as all "
        "models have positions, batch 1 and 32.",
    )
    finetune: FinetuneOptions | None = part(
        FinetuneOptions, switch="Whether to train; else the model is fine-tuned already."
    )
    output_dir: Path | None = setting(
        None,
        "Gets results.json, and from fine-tuning predictions in the benchmark's format and the "
        "first seed's model.",
        group="Run",
    )
    overwrite: bool = setting(False, "Replace a finished run in output_dir.", group="Run")
    show_examples: int = setting(
        0,
        "Of tasks with training: put the texts of so many worst examples of each split into "
        "results.json and report.html.",
        least=0,
        group="Run",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        task = self.find_task()
        if task is None and not self.benchmark:
            raise InputError("There is nothing to do. Pass task=NAME, benchmark=True or both.")
        if task is not None:
            task.check_source()
        if isinstance(task, tasks.ScoredTask):
            task.check_models(self.models)
        if isinstance(task, tasks.TrainedTask) and len(self.models) > 1:
            raise InputError(
                f"task={self.task} takes one model, received {', '.join(self.models)}. Run it "
                "once for each model."
            )
        if self.saves_nothing:
            raise InputError(
                "saved_model=True has no effect without output_dir. Pass output_dir=DIR, or leave "
                "it out."
            )
        if self.overwrite and self.output_dir is not None:
            for name in OUTPUTS:
                check_spares_inputs(self.output_dir / name, {"model": self.models})

    @property
    def saves_nothing(self) -> bool:
        """Whether a SavedModel is asked for that no directory is there for."""
        return self.output_dir is None and self.finetune is not None and self.finetune.saved_model

    def find_task(self) -> tasks.Task | None:
        """The task with its options; None for the benchmark alone.

        Raises:
            InputError: There is no such task or option.
        """
        return tasks.get(self.task, **self.task_options) if self.task else None

    def idle(self) -> dict[str, str]:
        """Says why settings that were changed are not read by the task, by flag."""
        if isinstance(self.find_task(), tasks.TrainedTask):
            return {}
        trained = [name for name, one in tasks.TASKS.items() if isinstance(one, tasks.TrainedTask)]
        tuned = {"finetune", *(one.flag for one in settings_of(FinetuneOptions))}
        return {
            name: f"it is for fine-tuning, with task={', '.join(trained)}"
            for name in self.changed()
            if name in tuned
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferJobOptions(Settings):
    """Settings of distilling a fine-tuned model on its task.

    Raises:
        InputError: The task cannot be distilled on, has no data, there is no student, or
            `overwrite` would delete what the job reads.
    """

    title = "Task"

    teacher: str = setting(
        MISSING,
        "The fine-tuned model: the directory model/ of an etd_evaluate run, or one saved by "
        "Transformers.",
        required=True,
        group="Models",
    )
    student: str | None = setting(
        None,
        "The student to start from, such as a directory made by etd_distill; default: one in the "
        "sizes below is cut out of the teacher, by importance for the task's texts.",
        group="Models",
    )
    size: StudentSize
    extraction: ExtractionOptions
    seed: int = setting(0, "Seed of the student that is cut out.", least=0, group="Models")
    task: str = setting(
        MISSING,
        "What the teacher was fine-tuned for.",
        choices=transfer_tasks,
        required=True,
    )
    task_options: Mapping[str, Any] = options_of(transfer_tasks, chosen="task")
    unlabelled: str | None = setting(
        None,
        "Further texts for all stages but labels, one a line; of a pair both, with a tab between.",
    )
    transfer: TransferOptions = part(TransferOptions)
    output_dir: Path = setting(
        MISSING, "Gets results.json, the first seed's model and its predictions.", required=True
    )
    overwrite: bool = setting(False, "Replace a finished run in output_dir.")
    cache_dir: Path = setting(
        Path(DEFAULT_CACHE),
        "Where a teacher's outputs, and students cut out of it, are kept.",
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_task()
        self._check_student()
        if self.overwrite:
            models: Inputs = {"teacher": [self.teacher], "student": [self.student]}
            for name in OUTPUTS:
                check_spares_inputs(self.output_dir / name, models)

    def _check_task(self) -> None:
        task = self.find_task()
        task.check_source()
        if isinstance(task, tasks.TextTask):
            return
        if STATES in self.transfer.stages and task.head == "qa_outputs":
            raise InputError(
                f"An example of {self.task} has no one state that a head reads. Pass "
                "stages=logits,labels, or stages=layers,logits,labels to imitate whole layers."
            )
        if self.unlabelled:
            what = "words" if isinstance(task, tasks.OwnFiles) else "questions"
            raise InputError(
                f"unlabelled={self.unlabelled} is for texts with a class or a score; "
                f"task={self.task} reads {what}. Leave it out."
            )

    def _check_student(self) -> None:
        cut = list(self.size.changed()) + list(self.extraction.changed())
        if self.student is not None and cut:
            raise InputError(
                f"student={self.student} is taken as it is, so {', '.join(cut)} have no effect. "
                "Leave out one or the other."
            )
        if self.student is None and self.size == StudentSize():
            raise InputError(
                "There is no student. Pass student=DIR, or sizes such as num_layers=3 for one "
                "that is cut out of the teacher."
            )

    def find_task(self) -> tasks.TrainedTask:
        """The task with its options."""
        task = tasks.get(self.task, **self.task_options)
        if not isinstance(task, tasks.TrainedTask):
            known = ", ".join(transfer_tasks())
            raise InputError(f"task={self.task} cannot be distilled on; choose from {known}.")
        return task
