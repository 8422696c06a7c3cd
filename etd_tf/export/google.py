"""Google's TF1 checkpoints."""

import dataclasses

from etd_tf.export.base import CheckpointFormat, Export


@dataclasses.dataclass(frozen=True, kw_only=True)
class Google(CheckpointFormat):
    """A checkpoint of google-research/bert."""

    name = "google"
    summary = "google-research/bert and tf-models"
    mark = "bert_model.ckpt.index"
    folder = "exports/google"
    limit = 0.0

    def usage(self, export: Export) -> str:
        """Nothing: those programs take the directory as a flag."""
        del export
        return ""
