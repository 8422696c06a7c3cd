"""TensorFlow Datasets, an optional package, with its problems in words."""

import os
from typing import Any

from etd_tf.errors import InputError


def import_tfds(purpose: str) -> Any:
    """Imports the package.

    Args:
        purpose: What needs it, as the user asked for it.

    Returns:
        The module.

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


def load_tfds(
    name: str, split: str, data_dir: str | None, *, flag: str, files: str
) -> tuple[Any, Any]:
    """Loads one split, downloading what is missing.

    Args:
        name: The dataset.
        split: Its name there.
        data_dir: Where datasets are kept, `~` allowed; None for the package's own place.
        flag: The flag that asked for it.
        files: What its directory could hold instead.

    Returns:
        Rows as dictionaries of NumPy values, and the package's description.

    Raises:
        InputError: The package is missing, or cannot provide the dataset.
    """
    tfds = import_tfds(f"--{flag}=tfds")
    folder = None if data_dir is None else os.path.expanduser(data_dir)
    try:
        dataset, info = tfds.load(name, split=split, data_dir=folder, with_info=True)
    except Exception as error:  # download and preparation fail with many types
        raise InputError(
            f"TensorFlow Datasets cannot provide {name}: {error}. "
            f"Pass --{flag}=DIR with the official {files} files instead."
        ) from error
    return tfds.as_numpy(dataset), info
