"""Users' own tasks: their files, and a class or a number for one or two texts of a table."""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etd_tf.errors import InputError
from etd_tf.lazy import LazyModule
from etd_tf.settings import setting
from etd_tf.storage.home import expand
from etd_tf.tasks.task import TrainedTask
from etd_tf.tasks.text_task import TextTask
from etd_tf.types import Array, IntArray

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Experiment

own_data: Any = LazyModule("etd_tf.tasks.own_data")  # what needs NumPy

_PAIR_COLUMN = "text_pair"


@dataclasses.dataclass(frozen=True)
class OwnData:
    """What the files of a task hold.

    Attributes:
        names: Classes in the order of the labels; empty for regression.
        splits: `"train"`, `"dev"` and `"test"`, those that are there: `Examples`, or `Sentences`.
    """

    names: tuple[str, ...]
    splits: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnFiles(TrainedTask):
    """A task whose examples are in a user's files.

    Where there is no file for dev, a tenth of the training rows is held out, the same in every
    run. To score a model that is fine-tuned already, dev or test is enough: its classes are
    known.

    Attributes:
        label_names: Classes in the order of the labels, where there are no training rows.
        train: The training rows.
        dev: Rows to report scores on.
        test: Rows to predict; scored, too, where they have labels.
    """

    label_names: tuple[str, ...] = ()
    train: str | None = setting(
        None,
        "Own tasks: training rows, CSV or TSV with column names, or JSON lines; of tag CoNLL or "
        "JSON lines.",
    )
    dev: str | None = setting(
        None,
        "Own tasks: rows to report scores on; default: a tenth of train, of each class its share.",
    )
    test: str | None = setting(
        None, "Own tasks: rows to predict; they are scored, too, if they have labels."
    )
    text_column: str = setting("text", "Own tasks: column of the text; of tag also tokens.")
    label_column: str = setting(
        "label", "Own tasks: column of the class or number; of tag also ner_tags or tags."
    )

    data_setting: ClassVar[str] = "train"

    @property
    def data_options(self) -> tuple[str, ...]:
        """The training rows, those for dev, and the columns."""
        return "train", "dev", "text_column", "label_column"

    @property
    def source(self) -> str:
        """The first of its files."""
        return str(expand(self.train or self.dev or self.test or ""))

    def check_source(self) -> None:
        """Checks that there is a file."""
        if not (self.train or self.dev or self.test):
            raise InputError(f"{self.name} needs its data: pass {self.data_hint}.")

    @functools.cached_property
    def _data(self) -> OwnData:
        return self._read_files()

    @abc.abstractmethod
    def _read_files(self) -> OwnData:
        """Reads all files and checks them."""

    def classes(self) -> tuple[str, ...]:
        """The labels of the training rows, whole numbers in their order, others in ABC order."""
        return self._data.names

    def scored_splits(self) -> tuple[str, ...]:
        """Dev, and a test file with labels."""
        return tuple(
            name
            for name, examples in self._data.splits.items()
            if name != "train" and examples.labels is not None
        )

    def read(self, split: str) -> Any:
        """Reads `"train"`, `"dev"` or `"test"`."""
        return self._data.splits[split]

    def fingerprints(self) -> dict[str, str]:
        """Hashes of the splits that are there."""
        return {name: examples.fingerprint() for name, examples in self._data.splits.items()}

    def experiment(
        self, checkpoint: "Checkpoint", label_names: Sequence[str] | None = None
    ) -> "Experiment":
        """Reads and tokenises the data for a model, see `TrainedTask.experiment`."""
        if not self.train and label_names is None:
            raise InputError(
                f"task={self.name} needs train=FILE to fine-tune a model. To score one that is "
                "fine-tuned already, pass finetune=False."
            )
        known = tuple(label_names or ())
        task = self if self.train else dataclasses.replace(self, label_names=known)
        return task._experiment(checkpoint, label_names)

    @abc.abstractmethod
    def _experiment(
        self, checkpoint: "Checkpoint", label_names: Sequence[str] | None
    ) -> "Experiment":
        """Tokenises the data."""

    def settings_of_training(self) -> dict[str, Any]:
        """The classes."""
        return {"label_names": list(self.classes())}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnTask(OwnFiles, TextTask):
    """A task whose examples are rows of a table: CSV, TSV or JSON lines, told by their content.

    See `etd_tf.tasks.tables`. Each class has its share in a tenth that is held out.
    """

    pair_column: str | None = setting(
        None,
        f"Own tasks: column of a second text; default: none, for pairs {_PAIR_COLUMN}.",
    )

    data_hint: ClassVar[str] = "train=FILE, a CSV, TSV or JSON-lines file"

    def __post_init__(self) -> None:
        names = ("text", "text_pair")[: len(self.columns)]
        object.__setattr__(self, "text_names", names)  # as they are served
        super().__post_init__()

    @property
    def data_options(self) -> tuple[str, ...]:
        """The files and all columns."""
        return *super().data_options, "pair_column"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the one or two texts."""
        return (self.text_column, *([self.pair_column] if self.pair_column else []))

    def _read_files(self) -> OwnData:
        data: OwnData = own_data.read_own(self)
        return data

    def _experiment(
        self, checkpoint: "Checkpoint", label_names: Sequence[str] | None
    ) -> "Experiment":
        return TextTask.experiment(self, checkpoint, label_names)

    def submissions(self) -> list[tuple[TextTask, str]]:
        """The test file, if there is one."""
        return [(self, "test")] if self.test else []

    def write_submission(
        self, directory: Path, split: str, indices: IntArray, predictions: Array
    ) -> Path:
        """Writes `test.tsv`: the number of each row, from 0, and its label's name or number."""
        path: Path = own_data.write_predictions(
            directory / f"{split}.tsv", indices, predictions, self.classes()
        )
        return path

    @property
    @abc.abstractmethod
    def is_regression(self) -> bool:
        """Whether the label is a number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classify(OwnTask):
    """A class for a text, or for two with `pair_column`."""

    name: str = "classify"
    label: str = "Classification"
    metrics: tuple[str, ...] = ("accuracy", "macro_f1", "matthews")
    class_weights: str = setting(
        "none",
        "classify, pairs: with balanced a class weighs in training by the inverse of its share.",
        choices=("none", "balanced"),
    )

    is_regression = False

    def settings_of_training(self) -> dict[str, Any]:
        """The classes, and how they are weighed."""
        return {**super().settings_of_training(), "class_weights": self.class_weights}

    def training_weights(self, labels: Array) -> Array | None:
        """Weight of each example, mean 1, where classes are balanced."""
        if self.class_weights == "none":
            return None
        weights: Array = own_data.balanced_weights(labels)
        return weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs(Classify):
    """A class for two texts."""

    name: str = "pairs"
    label: str = "Classification of pairs"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the two texts."""
        return self.text_column, self.pair_column or _PAIR_COLUMN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regress(OwnTask):
    """A number for a text, or for two with `pair_column`."""

    name: str = "regress"
    label: str = "Regression"
    metrics: tuple[str, ...] = ("spearman", "pearson", "r2")

    is_regression = True
