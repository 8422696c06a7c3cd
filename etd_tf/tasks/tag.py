"""Users' own token classification: a tag for each word, read from CoNLL files or JSON lines."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from etd_tf.lazy import LazyModule
from etd_tf.tasks.own import OwnData, OwnFiles

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.evaluation.experiment import Experiment

tag_data: Any = LazyModule("etd_tf.tasks.tag_data")  # what needs NumPy
tag_experiment: Any = LazyModule("etd_tf.tasks.tag_experiment")  # what needs Keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tag(OwnFiles):
    """A tag for each word, such as the parts of names; scored by whole entities.

    Source: Tjong Kim Sang and De Meulder 2003, CoNLL-2003 (arXiv cs/0306050), for the format and
    the scores.
    """

    name: str = "tag"
    label: str = "Token classification"
    metrics: tuple[str, ...] = ("f1", "precision", "recall", "accuracy")

    head: ClassVar[str] = "token_classifier"
    data_hint: ClassVar[str] = "train=FILE, a CoNLL or JSON-lines file"

    def _read_files(self) -> OwnData:
        data: OwnData = tag_data.read_tags(self)
        return data

    def _experiment(
        self, checkpoint: "Checkpoint", label_names: Sequence[str] | None
    ) -> "Experiment":
        made: Experiment = tag_experiment.TagExperiment(self, checkpoint, label_names)
        return made
