"""What a task is: something that models are measured on."""

import abc
import dataclasses
import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from etd_tf.errors import InputError
from etd_tf.settings import Settings, check_known, setting

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Experiment, Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Settings, abc.ABC):
    """Base of the tasks in `etd_tf.tasks.TASKS`; one is a `TrainedTask` or a `ScoredTask`.

    A task's fields that are settings are its options; each is a flag of `etd_evaluate`. One of
    them names its data. A task is light: only its methods load what they need.

    Attributes:
        name: On the command line, e.g. `"glue/sst2"`.
        label: For readers, e.g. `"SST-2"`.
        metrics: What is measured, higher is better; the first metric ranks models.
        max_length: Tokens of an example; None for `usual_length`.
        data_setting: Name of the option that says where the data is.
        data_hint: What to give it.
        usual_length: Tokens of an example where the model has as many positions.
        epochs_setting: Name of the comparison's setting for passes over the training data.
    """

    name: str
    label: str
    metrics: tuple[str, ...]
    max_length: int | None = setting(
        None,
        "Tokens of an example; default: 128, of a question and its paragraph 384, at most the "
        "model's positions.",
        least=6,
    )

    data_setting: ClassVar[str]
    data_hint: ClassVar[str]
    usual_length: ClassVar[int] = 128
    epochs_setting: ClassVar[str] = "finetune_epochs"

    @property
    def metric(self) -> str:
        """The metric that ranks models."""
        return self.metrics[0]

    @property
    def data_options(self) -> tuple[str, ...]:
        """Names of all options that say what its data is."""
        return (self.data_setting,)

    @property
    def source(self) -> str:
        """Where its data is; empty where nobody said."""
        found: str | None = getattr(self, self.data_setting)
        return os.path.expanduser(found or "")

    def check_source(self) -> None:
        """Checks that somebody said where the data is."""
        if not self.source:
            raise InputError(f"{self.name} needs its data: pass {self.data_hint}.")

    def configured(self, options: Mapping[str, Any]) -> "Task":
        """Returns the task with other options.

        Raises:
            InputError: It has no such option, or the value is out of range.
        """
        check_known(f"Task {self.name!r}", type(self), options)
        return dataclasses.replace(self, **options)

    def length_for(self, *models: "Checkpoint") -> int:
        """Tokens of an example: `max_length`, or the usual number as far as all models have it."""
        if self.max_length is not None:
            return self.max_length
        return min(self.usual_length, *(model.config.max_positions for model in models))

    @abc.abstractmethod
    def fingerprints(self) -> dict[str, str]:
        """Reads all labelled data; a hash of each split, in their order.

        Raises:
            InputError: Data is missing or malformed.
        """

    def fingerprint(self) -> str:
        """Hash of all labelled data.

        Raises:
            InputError: Data is missing or malformed.
        """
        return hashlib.sha256("".join(self.fingerprints().values()).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedTask(Task):
    """A task for which a model with a head is fine-tuned.

    Attributes:
        head: Name of the head, that of a model in `etd_tf.evaluation.classifiers`.
    """

    head: ClassVar[str]

    @abc.abstractmethod
    def experiment(
        self, checkpoint: "Checkpoint", label_names: Sequence[str] | None = None
    ) -> "Experiment":
        """Reads the data and tokenises it for a model.

        Args:
            checkpoint: The model, for its tokenizer and sizes.
            label_names: Class order of a model that is fine-tuned already.

        Returns:
            What the fine-tuning loop asks for.

        Raises:
            InputError: Data is missing, malformed or does not fit the model.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredTask(Task):
    """A task on which models are scored as they are.

    Attributes:
        split: The data that is scored.
        least_models: Models that it takes; 2 where they are compared with the first.
    """

    split: ClassVar[str] = "dev"
    least_models: ClassVar[int] = 1

    def check_models(self, models: Collection[str]) -> None:
        """Checks that there are enough models."""
        if len(models) < self.least_models:
            raise InputError(
                f"{self.name} compares models with their teacher. Pass teacher=DIR and model=DIR, "
                f"received {', '.join(models)} alone."
            )

    def remarks(self, scores: "Mapping[str, Scores]") -> Sequence[str]:
        """Says what readers of what `score` returned should know.

        Returns:
            Sentences, most often none.
        """
        del scores
        return ()

    @abc.abstractmethod
    def score(self, models: Mapping[str, "Checkpoint"]) -> "dict[str, Scores]":
        """Scores models, given by the name to report, a teacher first.

        Returns:
            Metrics by model, in their order.

        Raises:
            InputError: Data is missing or malformed, or a model cannot be used.
        """
