"""Hugging Face model directories, read and written without PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.names import HUGGINGFACE_BERT, expand
from etd_tf.data.tokenizer import Tokenizer
from etd_tf.errors import InputError
from etd_tf.files import atomic_directory
from etd_tf.modeling.config import BertConfig, read_json_object
from etd_tf.types import Parameters


def load_huggingface(directory: str | Path, *, dtype: Any = None) -> Checkpoint:
    """Reads a Hugging Face directory of type `bert`."""
    directory = Path(directory)
    config = BertConfig.from_huggingface(read_json_object(directory / "config.json"))
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}
    parameters: Parameters = {}
    for row in expand(HUGGINGFACE_BERT, config.num_layers):
        if row.theirs in tensors:
            value = tensors[row.theirs].astype(np.float32)
            parameters[row.canonical] = value.T if row.transposed else value
    tokenizer = Tokenizer.from_directory(directory)
    return Checkpoint.from_parameters(
        config, parameters, tokenizer=tokenizer, source=str(directory), dtype=dtype
    )


def save_huggingface(
    checkpoint: Checkpoint, directory: str | Path, *, overwrite: bool = False
) -> None:
    """Writes a directory that stock Transformers loads."""
    if not isinstance(checkpoint, Checkpoint):
        raise InputError(f"Expected a Checkpoint, received {type(checkpoint).__name__}.")
    parameters = checkpoint.parameters()
    has_head = checkpoint.mlm_head is not None
    tensors = {}
    for row in expand(HUGGINGFACE_BERT, checkpoint.config.num_layers):
        if row.canonical not in parameters:
            continue
        name = (
            f"bert.{row.theirs}" if has_head and not row.theirs.startswith("cls.") else row.theirs
        )
        value = parameters[row.canonical]
        tensors[name] = np.ascontiguousarray(value.T if row.transposed else value)
    values = checkpoint.config.to_huggingface()
    values["architectures"] = ["BertForMaskedLM" if has_head else "BertModel"]
    with atomic_directory(directory, overwrite=overwrite) as scratch:
        (scratch / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        safetensors.numpy.save_file(
            tensors, scratch / "model.safetensors", metadata={"format": "pt"}
        )
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save(scratch)
