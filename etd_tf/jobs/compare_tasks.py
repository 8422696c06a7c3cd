"""The downstream tasks of a comparison: which, trained how, on which data."""

import dataclasses
from collections.abc import Mapping

from etd_tf import tasks
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.settings import Settings, options_of, part, setting
from etd_tf.tasks import Task, TrainedTask


@dataclasses.dataclass(frozen=True)
class DownstreamOptions(Settings):
    """What the students are tried on besides the held-out loss.

    Attributes:
        data: Where the tasks' data is, by the name of the option that says so, e.g.
            `glue_dir`.
        finetune: How students are trained on tasks that need it, but for SQuAD's epochs.

    Raises:
        InputError: A task is unknown or lacks its data, or a value is out of range.
    """

    title = "Measuring"

    tasks: tuple[str, ...] = setting(
        (),
        "Downstream tasks; those that are not fine-tuned score every kept student.",
        choices=lambda: tasks.TASKS,
        distinct=True,
        free=True,
    )
    data: Mapping[str, str | None] = options_of(
        lambda: tasks.TASKS, only=lambda task: task.data_options, free=True
    )
    finetune: FinetuneOptions = part(
        FinetuneOptions,
        prefix="finetune_",
        without=("batch_size", "warmup_ratio", "weight_decay", "precision", "saved_model"),
        free=True,
        group="Measuring",
    )
    squad_epochs: int = setting(
        2, "Passes over SQuAD, which is larger than most tasks of GLUE.", least=1, free=True
    )
    finetune_at: tuple[int, ...] = setting(
        (100,),
        "Percentages of the steps; students fine-tuned.",
        least=0,
        most=100,
        some=True,
        distinct=True,
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.tasks:
            self.task(name).check_source()

    def idle(self) -> dict[str, str]:
        """Says why settings have no effect on the tasks, by flag.

        Where there is a task, data of others may be named, so that one file of flags serves all.
        """
        trained = {name: one for name, one in tasks.TASKS.items() if isinstance(one, TrainedTask)}
        readers = {f"finetune_{name}": [*trained] for name in ("at", "learning_rates", "seeds")}
        for flag in ("finetune_epochs", "squad_epochs"):
            readers[flag] = [name for name, one in trained.items() if one.epochs_setting == flag]
        unread = {name: "it is for tasks=" for name in self.data if not self.tasks}
        for flag, names in readers.items():
            if not {*names} & {*self.tasks}:
                unread[flag] = f"it is for tasks={', '.join(names)}"
        return {name: unread[name] for name in self.changed() if name in unread}

    def task(self, name: str) -> Task:
        """One of the tasks, told where its data is."""
        told = {key: self.data[key] for key in tasks.TASKS[name].data_options if key in self.data}
        return tasks.get(name, **told)

    def finetuning(self, name: str) -> FinetuneOptions:
        """How students are trained on a task."""
        epochs = {"finetune_epochs": self.finetune.epochs, "squad_epochs": self.squad_epochs}
        return dataclasses.replace(self.finetune, epochs=epochs[tasks.TASKS[name].epochs_setting])


def fingerprint_tasks(options: DownstreamOptions) -> dict[str, str]:
    """Reads the tasks' labelled data, so that what is missing or another shows at once.

    Returns:
        By task a SHA-256 of its data.

    Raises:
        InputError: A task's data cannot be read.
    """
    return {name: options.task(name).fingerprint() for name in options.tasks}
