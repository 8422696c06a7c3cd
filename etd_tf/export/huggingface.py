"""Hugging Face directories."""

import dataclasses

from etd_tf.export.base import CheckpointFormat, Export


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFace(CheckpointFormat):
    """A directory for Transformers; the form in which a run always keeps its student."""

    name = "huggingface"
    summary = "Transformers"
    mark = "model.safetensors"
    folder = "student"
    optional = False
    limit = 0.0

    def usage(self, export: Export) -> str:
        """Loads it here and in Transformers."""
        return (
            "# etd_tf, or stock Hugging Face Transformers\n"
            f'student = etd_tf.load_checkpoint("{export.path}")\n'
            f'student = transformers.AutoModel.from_pretrained("{export.path}")'
        )
