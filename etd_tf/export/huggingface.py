"""Hugging Face directories."""

import dataclasses
from typing import TYPE_CHECKING

from etd_tf.export.base import CheckpointFormat

if TYPE_CHECKING:
    from etd_tf.checkpoints import Checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFace(CheckpointFormat):
    """A directory for Transformers; the form in which a run always keeps its student.

    That of a sentence encoder loads in sentence-transformers, too.
    """

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

    def card(self, checkpoint: "Checkpoint") -> str:
        """The model's own card, where it has one."""
        from etd_tf.checkpoints.cards import model_card, read_card

        own = read_card(checkpoint.source) if checkpoint.source else ""
        return own or model_card(checkpoint)
