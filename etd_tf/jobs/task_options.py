"""Settings of the jobs that need a task; apart, as other commands need not wait for the tasks."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etd_tf import tasks
from etd_tf.errors import InputError
from etd_tf.evaluation.options import OUTPUTS, FinetuneOptions
from etd_tf.evaluation.stages import TransferOptions
from etd_tf.jobs.safeguards import Inputs, check_spares_inputs
from etd_tf.settings import MISSING, Settings, options_of, part, setting, settings_of


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


def _distilled() -> dict[str, tasks.Task]:
    """Tasks of texts, or of words, with labels."""
    kinds = tasks.TextTask | tasks.OwnFiles
    return {name: one for name, one in tasks.TASKS.items() if isinstance(one, kinds)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferJobOptions(Settings):
    """Settings of distilling a fine-tuned model on its task.

    Raises:
        InputError: The task is none of texts with labels, has no data, or `overwrite` would
            delete what the job reads.
    """

    title = "Task"

    teacher: str = setting(
        MISSING,
        "The fine-tuned model: the directory model/ of an etd_evaluate run, or one saved by "
        "Transformers.",
        required=True,
        group="Models",
    )
    student: str = setting(
        MISSING,
        "The student to start from: a directory made by etd_extract or etd_distill, best out of "
        "the fine-tuned teacher, or any other model.",
        required=True,
        group="Models",
    )
    task: str = setting(
        MISSING,
        "What the teacher was fine-tuned for.",
        choices=_distilled,
        required=True,
    )
    task_options: Mapping[str, Any] = options_of(_distilled, chosen="task")
    unlabelled: str | None = setting(
        None,
        "Further texts for states and logits, one a line; of a pair both, with a tab between.",
    )
    transfer: TransferOptions = part(TransferOptions)
    output_dir: Path = setting(
        MISSING, "Gets results.json, the first seed's model and its predictions.", required=True
    )
    overwrite: bool = setting(False, "Replace a finished run in output_dir.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.find_task().check_source()
        if self.overwrite:
            models: Inputs = {"teacher": [self.teacher], "student": [self.student]}
            for name in OUTPUTS:
                check_spares_inputs(self.output_dir / name, models)

    def find_task(self) -> tasks.TrainedTask:
        """The task with its options."""
        task = tasks.get(self.task, **self.task_options)
        if not isinstance(task, tasks.TextTask | tasks.OwnFiles):
            raise InputError(
                f"task={self.task} is none of texts with a class or a score, or of words with tags."
            )
        return task
