"""The SQuAD tasks: answers as spans of a paragraph.

Source: Rajpurkar et al. 2016 (arXiv 1606.05250) and 2018 (arXiv 1806.03822).
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from etd_tf.lazy import LazyModule
from etd_tf.settings import setting
from etd_tf.tasks.task import Task, TrainedTask

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Experiment
    from etd_tf.tasks.squad_data import SquadDataset

squad_experiment: Any = LazyModule("etd_tf.tasks.squad_experiment")  # what needs Keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquadData(Task):
    """A task whose data is SQuAD's.

    Attributes:
        squad_dir: Directory of the official files, or `tfds` or `tfds:DATA_DIR`.
    """

    squad_dir: str | None = setting(
        None, "Directory with SQuAD's own files (train-v1.1.json, ...), or tfds."
    )

    data_setting: ClassVar[str] = "squad_dir"
    data_hint: ClassVar[str] = (
        "squad_dir=DIR with SQuAD's own files, or squad_dir=tfds to download them with TensorFlow "
        "Datasets"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquadV1(SquadData, TrainedTask):
    """SQuAD v1.1: every question has an answer.

    Attributes:
        version: As in the names of its files.
    """

    name: str = "squad/v1.1"
    label: str = "SQuAD v1.1"
    metrics: tuple[str, ...] = ("f1", "exact_match")
    doc_stride: int = setting(128, "squad: tokens between windows of a paragraph.", least=1)

    version: ClassVar[str] = "v1.1"
    head: ClassVar[str] = "qa_outputs"
    usual_length: ClassVar[int] = 384
    epochs_setting: ClassVar[str] = "squad_epochs"

    @property
    def null_score(self) -> float:
        """No answer is predicted where its score is ahead by more than this (v2.0 only)."""
        return 0.0

    def read(self, split: str) -> "SquadDataset":
        """Reads `"train"` or `"dev"`."""
        from etd_tf.tasks.squad_data import load_squad

        return load_squad(self.version, split, self.source)

    def fingerprints(self) -> dict[str, str]:
        """Reads both files; a hash of each."""
        return {split: self.read(split).fingerprint() for split in ("train", "dev")}

    def experiment(
        self, checkpoint: "Checkpoint", label_names: Sequence[str] | None = None
    ) -> "Experiment":
        """Reads the data and cuts it into windows, see `TrainedTask.experiment`."""
        del label_names  # spans have none
        made: Experiment = squad_experiment.SquadExperiment(self, checkpoint)
        return made


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquadV2(SquadV1):
    """SQuAD v2.0: the paragraph does not answer every question."""

    name: str = "squad/v2.0"
    label: str = "SQuAD v2.0"
    null_threshold: float = setting(
        0.0, "squad/v2.0: no answer where its score is ahead by more than this."
    )

    version: ClassVar[str] = "v2.0"

    @property
    def null_score(self) -> float:
        """The threshold."""
        return self.null_threshold
