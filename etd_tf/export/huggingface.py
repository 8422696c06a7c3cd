"""Hugging Face directories."""

import dataclasses

from etd_tf.export.base import CheckpointFormat


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFace(CheckpointFormat):
    """A directory for Transformers; the form in which a run always keeps its student."""

    name = "huggingface"
    summary = "Transformers"
    mark = "model.safetensors"
    folder = "student"
    optional = False
    limit = 0.0
    code = (
        "# etd_tf, or stock Hugging Face Transformers\n"
        'student = etd_tf.load_checkpoint("{path}")\n'
        'student = transformers.AutoModel.from_pretrained("{path}")'
    )
