"""Google's TF1 checkpoints."""

import dataclasses

from etd_tf.export.base import CheckpointFormat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Google(CheckpointFormat):
    """A checkpoint of google-research/bert."""

    name = "google"
    summary = "google-research/bert and tf-models"
    mark = "bert_model.ckpt.index"
    folder = "exports/google"
    limit = 0.0
