"""Checkpoints in and out: Hugging Face, Google and KerasHub."""

from etd_tf.checkpoints.cards import Measured, model_card
from etd_tf.checkpoints.checkpoint import Checkpoint, TaskHead, fingerprint
from etd_tf.checkpoints.loading import FORMATS, SaveReport, load_checkpoint, save_checkpoint
from etd_tf.storage.sources import resolve_source

__all__ = [
    "FORMATS",
    "Checkpoint",
    "Measured",
    "SaveReport",
    "TaskHead",
    "fingerprint",
    "load_checkpoint",
    "model_card",
    "resolve_source",
    "save_checkpoint",
]
