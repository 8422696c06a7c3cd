"""TensorFlow Datasets, an optional package, with its problems in words."""

import os
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError

_PREFIX = "tfds"


def parse_source(source: str | Path) -> tuple[bool, str]:
    """Reads where a dataset is: a directory, or `tfds` or `tfds:DATA_DIR`; `~` is the home.

    Args:
        source: What `--glue_dir` and `--squad_dir` take.

    Returns:
        Whether it is TensorFlow Datasets, and the directory; empty for the package's own.
    """
    prefix, _, data_dir = str(source).partition(":")
    is_tfds = prefix == _PREFIX
    return is_tfds, os.path.expanduser(data_dir if is_tfds else source)


def import_tfds(purpose: str) -> Any:
    """Imports the package, for what the user asked for.

    Raises:
        InputError: It is not installed.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise InputError(
            f"{purpose} needs TensorFlow Datasets: "
            "pip install tensorflow-datasets importlib-resources."
        ) from error
    return tensorflow_datasets


def load_tfds(name: str, split: str, data_dir: str, *, flag: str, files: str) -> tuple[Any, Any]:
    """Loads one split, downloading what is missing.

    Args:
        name: The dataset.
        split: Its name there.
        data_dir: Where datasets are kept; empty for the package's own place.
        flag: The flag that asked for it.
        files: What its directory could hold instead.

    Returns:
        Rows as dictionaries of NumPy values, and the package's description.

    Raises:
        InputError: The package is missing, or cannot provide the dataset.
    """
    tfds = import_tfds(f"--{flag}=tfds")
    try:
        dataset, info = tfds.load(name, split=split, data_dir=data_dir or None, with_info=True)
    except Exception as error:  # download and preparation fail with many types
        raise InputError(
            f"TensorFlow Datasets cannot provide {name}: {error}. "
            f"Pass --{flag}=DIR with the official {files} files instead."
        ) from error
    return tfds.as_numpy(dataset), info
