"""Student models in the forms that other programs take."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from etd_tf.errors import InputError
from etd_tf.export.base import Export, Format
from etd_tf.export.google import Google
from etd_tf.export.huggingface import HuggingFace
from etd_tf.export.keras_hub import KerasHub
from etd_tf.export.litert import LiteRT, export_litert
from etd_tf.export.saved_model import SavedModel, export_saved_model
from etd_tf.lazy import lazy_names

if TYPE_CHECKING:
    from etd_tf.checkpoints import Checkpoint

FORMATS: dict[str, type[Format]] = {
    form.name: form for form in (SavedModel, HuggingFace, KerasHub, Google, LiteRT)
}
"""Every format that a model can be written in, by name."""


def export_checkpoint(
    checkpoint: "Checkpoint",
    directory: str | Path,
    format: str,
    *,
    overwrite: bool = False,
    **options: Any,
) -> Export:
    """Writes a checkpoint in one format, loads it back and compares.

    Args:
        checkpoint: The model.
        directory: The directory to create. A SavedModel is its subdirectory `1`, a LiteRT
            model its file `model.tflite`, with the tokenizer beside it.
        format: A name in `FORMATS`.
        overwrite: Replace an existing directory.
        **options: The format's fields: `max_length` of a SavedModel, `quantize` of LiteRT.

    Returns:
        What was written.

    Raises:
        InputError: The format is unknown or the directory exists.
        EtdError: What was written does not give the model's numbers.
    """
    if format not in FORMATS:
        raise InputError(f"Unknown format {format!r}. Choose from {', '.join(FORMATS)}.")
    return FORMATS[format](**options).write(checkpoint, Path(directory), overwrite=overwrite)


_HOMES = {
    "Predict": "serving",
    "ServingModel": "serving",
    "ServingSpec": "serving",
    "TextEncoder": "text_encoder",
    "why_not_encodable": "text_encoder",
    "write_serving_model": "serving",
}

__all__ = [  # noqa: PLE0604
    "FORMATS",
    "Export",
    "Format",
    "Google",
    "HuggingFace",
    "KerasHub",
    "LiteRT",
    "SavedModel",
    "export_checkpoint",
    "export_litert",
    "export_saved_model",
    *_HOMES,
]
__getattr__ = lazy_names(__name__, _HOMES)
