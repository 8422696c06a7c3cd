"""What KerasHub's and Google's formats cannot express, in a folder beside their files.

Neither format records the exact form of GELU or the epsilon, and neither holds every kind
of tokenizer. The folder `etd_tf/` keeps them, so that reading our own export gives back the
checkpoint that was written.
"""

import json
from pathlib import Path
from typing import Any

from etd_tf.checkpoints.contents import Contents
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.json_files import read_json_object
from etd_tf.tokenization.directories import SIDECAR
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Parameters

_CONFIG_FILE = "config.json"
_SIZES = (
    "vocab_size",
    "num_layers",
    "hidden_size",
    "num_heads",
    "intermediate_size",
    "max_positions",
    "type_vocab_size",
)


def write_sidecar(
    config: BertConfig, parameters: Parameters, tokenizer: Tokenizer | None, directory: Path
) -> None:
    """Writes the folder.

    Args:
        config: The exact architecture.
        parameters: Arrays by canonical name; tell whether there is a pooler.
        tokenizer: The tokenizer, if any.
        directory: The checkpoint's directory.
    """
    folder = directory / SIDECAR
    folder.mkdir()
    values: dict[str, Any] = {"config": config.to_dict(), "pooler": "pooler.kernel" in parameters}
    (folder / _CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save(folder)


def apply_sidecar(contents: Contents, directory: Path) -> Contents:
    """Completes what a reader found with what the folder records.

    Args:
        contents: What the format itself holds.
        directory: The checkpoint's directory.

    Returns:
        The completed contents; the same where there is no such folder.

    Raises:
        InputError: The folder is malformed or describes a model of another size.
    """
    path = directory / SIDECAR / _CONFIG_FILE
    if not path.is_file():
        return contents
    config, pooler = _read(path)
    for name in _SIZES:
        ours, theirs = getattr(config, name), getattr(contents.config, name)
        if ours != theirs:
            raise InputError(
                f"{path} says {name}={ours}, but the checkpoint has {theirs}. "
                f"Remove the folder {SIDECAR} if the checkpoint was changed by hand."
            )
    parameters = {
        name: value
        for name, value in contents.parameters.items()
        if pooler or not name.startswith("pooler.")
    }
    return Contents(config, parameters, contents.tokenizer)


def _read(path: Path) -> tuple[BertConfig, bool]:
    values = read_json_object(path)
    try:
        return BertConfig(**values["config"]), bool(values["pooler"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is malformed ({error}). Remove it or export again.") from error
