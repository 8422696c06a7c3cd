"""One door for all forms of a student on disk."""

import dataclasses
from pathlib import Path

from etd_tf.checkpoints import FORMATS as CHECKPOINT_FORMATS
from etd_tf.checkpoints import Checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.export.litert import export_litert
from etd_tf.export.saved_model import export_saved_model
from etd_tf.storage.atomic import atomic_directory

FORMATS = ("saved_model", *CHECKPOINT_FORMATS, "litert")
"""What `export_checkpoint` writes."""

LITERT_FILE = "model.tflite"
# A file that every export of the format has.
_MARKS = {
    "saved_model": "*/saved_model.pb",
    "huggingface": "model.safetensors",
    "keras_hub": "model.weights.h5",
    "google": "bert_model.ckpt.index",
    "litert": LITERT_FILE,
}


@dataclasses.dataclass(frozen=True)
class Export:
    """One form of a model on disk.

    Attributes:
        format: One of `FORMATS`.
        path: What to load: a directory, or a file for `"litert"`.
        bytes_on_disk: Size of all its files.
        max_difference: Largest difference of its outputs from the model's, found when it
            was loaded back; 0 where the weights were compared bit by bit.
        note: What its user should know.
        takes_text: Whether text goes in, not token ids.
    """

    format: str
    path: str
    bytes_on_disk: int
    max_difference: float | None = None
    note: str = ""
    takes_text: bool = False


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Settings of single formats.

    Attributes:
        max_length: Tokens that the SavedModel cuts texts to; None for the model's
            positions.
        quantize: Store LiteRT kernels as int8.
    """

    max_length: int | None = None
    quantize: bool = False


def export_checkpoint(
    checkpoint: Checkpoint,
    directory: str | Path,
    format: str,
    *,
    options: ExportOptions = ExportOptions(),
    overwrite: bool = False,
) -> Export:
    """Writes a checkpoint in one format, loads it back and compares.

    Args:
        checkpoint: The model.
        directory: The directory to create. A SavedModel is its subdirectory `1`, a LiteRT
            model its file `model.tflite`, with the tokenizer beside it.
        format: One of `FORMATS`.
        options: Settings of single formats.
        overwrite: Replace an existing directory.

    Returns:
        What was written.

    Raises:
        InputError: The format is unknown or the directory exists.
        EtdError: What was written does not give the model's numbers.
    """
    if format not in FORMATS:
        raise InputError(f"Unknown format {format!r}. Choose from {', '.join(FORMATS)}.")
    directory = Path(directory)
    if format == "saved_model":
        return _saved_model(checkpoint, directory, options, overwrite=overwrite)
    if format == "litert":
        return _litert(checkpoint, directory, options, overwrite=overwrite)
    report = save_checkpoint(checkpoint, directory, format=format, overwrite=overwrite)
    return Export(
        format,
        str(directory),
        size_on_disk(directory),
        max_difference=report.max_difference or 0.0,
        note=" ".join(report.notes),
    )


def _saved_model(
    checkpoint: Checkpoint, directory: Path, options: ExportOptions, *, overwrite: bool
) -> Export:
    model = export_saved_model(
        checkpoint, directory, overwrite=overwrite, max_length=options.max_length
    )
    note = (
        "Takes text; import tensorflow_text before loading it."
        if model.ids_only is None
        else f"Takes token ids only: {model.ids_only}."
    )
    return Export(
        "saved_model",
        str(model.path),
        size_on_disk(model.path),
        model.max_difference,
        note,
        takes_text=model.ids_only is None,
    )


def _litert(
    checkpoint: Checkpoint, directory: Path, options: ExportOptions, *, overwrite: bool
) -> Export:
    with atomic_directory(directory, overwrite=overwrite) as scratch:
        difference = export_litert(checkpoint, scratch / LITERT_FILE, quantize=options.quantize)
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save(scratch)
    note = "Takes token ids" + (", kernels are int8." if options.quantize else ".")
    path = directory / LITERT_FILE
    return Export("litert", str(path), path.stat().st_size, difference, note)


def holds_export(directory: Path, format: str) -> bool:
    """Whether a directory is empty, missing, or looks like what a format writes.

    Args:
        directory: The directory.
        format: One of `FORMATS`.

    Returns:
        Whether an export may take its place without the loss of anything else.
    """
    if not directory.exists():
        return True
    if not directory.is_dir():
        return False
    return any(directory.glob(_MARKS[format])) or not any(directory.iterdir())


def size_on_disk(path: Path) -> int:
    """Adds up the bytes of a file, or of all files below a directory."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
