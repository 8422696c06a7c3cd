"""The downstream tasks of a comparison: which, trained how, on which data."""

import dataclasses
from collections.abc import Mapping

from etd_tf import tasks
from etd_tf.errors import InputError
from etd_tf.evaluation.finetuning import FinetuneOptions
from etd_tf.tasks import Task


@dataclasses.dataclass(frozen=True)
class DownstreamOptions:
    """What the students are tried on besides the held-out loss.

    Attributes:
        tasks: Names in `etd_tf.tasks.TASKS`.
        data: Where the tasks' data is, by the name of the option that says so, e.g.
            `glue_dir`.
        finetune: How students are trained on tasks that need it, but for SQuAD's epochs.
        squad_epochs: Passes over SQuAD, which is larger than most tasks of GLUE.
        finetune_at: Percentages of the steps whose students are fine-tuned.
    """

    tasks: tuple[str, ...] = ()
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)
    finetune: FinetuneOptions = dataclasses.field(default_factory=FinetuneOptions)
    squad_epochs: int = 2
    finetune_at: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        if len(set(self.tasks)) != len(self.tasks):
            raise InputError(f"tasks={','.join(self.tasks)}: expected none twice.")
        unknown = [name for name in self.tasks if name not in tasks.TASKS]
        if unknown:
            raise InputError(
                f"tasks={','.join(unknown)} is unknown; choose from {', '.join(tasks.TASKS)}."
            )
        for name in self.tasks:
            self.task(name).check_source()

    def task(self, name: str) -> Task:
        """One of the tasks, told where its data is."""
        setting = tasks.TASKS[name].data_setting
        return tasks.get(name, **{setting: self.data.get(setting, "")})

    def finetuning(self, name: str) -> FinetuneOptions:
        """How students are trained on a task."""
        epochs = {"finetune_epochs": self.finetune.epochs, "squad_epochs": self.squad_epochs}
        return dataclasses.replace(self.finetune, epochs=epochs[tasks.TASKS[name].epochs_setting])


def fingerprint_tasks(options: DownstreamOptions) -> dict[str, str]:
    """Reads the tasks' labelled data, so that what is missing or another shows at once.

    Args:
        options: The tasks.

    Returns:
        By task a SHA-256 of its data.

    Raises:
        InputError: A task's data cannot be read.
    """
    return {name: options.task(name).fingerprint() for name in options.tasks}
