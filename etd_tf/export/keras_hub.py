"""KerasHub presets."""

import dataclasses

from etd_tf.export.base import CheckpointFormat


@dataclasses.dataclass(frozen=True, kw_only=True)
class KerasHub(CheckpointFormat):
    """A preset directory of `BertBackbone`; of a sentence encoder, of `BertTextEmbedder`.

    It has no limit of error: KerasHub cannot compute exact GELU.
    """

    name = "keras_hub"
    summary = "KerasHub"
    mark = "model.weights.h5"
    folder = "exports/keras_hub"
    code = '# KerasHub\nstudent = keras_hub.models.BertBackbone.from_preset("{path}")'
