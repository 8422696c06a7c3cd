"""Checkpoints in and out: Hugging Face, Google and KerasHub."""

from etd_tf.checkpoints.checkpoint import Checkpoint, fingerprint
from etd_tf.checkpoints.loading import FORMATS, SaveReport, load_checkpoint, save_checkpoint
from etd_tf.storage.sources import resolve_source

__all__ = [
    "FORMATS",
    "Checkpoint",
    "SaveReport",
    "fingerprint",
    "load_checkpoint",
    "resolve_source",
    "save_checkpoint",
]
