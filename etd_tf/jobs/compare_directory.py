"""The directory of a comparison: one owner at a time, and equal terms for all its runs."""

import contextlib
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.jobs.safeguards import changed_flags, keep_identity
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.holding import check_is_directory, open_directory
from etd_tf.storage.json_files import read_json_object
from etd_tf.training.options import FREE_OPTIONS

STUDY_FILE = "study.json"
# Flags that add runs or scores to a comparison, or change nothing in its numbers.
_FREE = frozenset(
    {
        *("losses", "students", "arms", "seeds", "together"),
        *("tasks", "glue_dir", "squad_dir", "squad_epochs", "finetune_at"),
        *("finetune_learning_rates", "finetune_seeds", "finetune_epochs"),
        *("output_dir", "cache_dir"),
        *(FREE_OPTIONS - {"evaluate_at"}),
    }
)


def open_study(
    folder: Path, settings: Mapping[str, str]
) -> contextlib.AbstractContextManager[None]:
    """Takes hold of a comparison's directory, to begin it, continue it or add to it.

    Args:
        folder: The directory; made if missing, and removed if nothing was begun in it.
        settings: Flag values by name.

    Returns:
        Holds the directory until its block ends.

    Raises:
        InputError: It holds something else, or a comparison with other settings; another
            process works in it, or it cannot be written.
    """
    return open_directory(folder, functools.partial(check_study, folder, settings))


def begin_study(folder: Path, settings: Mapping[str, str], identity: Mapping[str, Any]) -> None:
    """Notes on which terms the runs are made; called when the work is known to be possible.

    Args:
        folder: The opened directory.
        settings: Flag values by name.
        identity: What the names in the flags stand for, see `keep_identity`.

    Raises:
        InputError: The comparison was begun with another identity.
    """
    fixed = {name: value for name, value in settings.items() if name not in _FREE}
    write_atomically(folder / STUDY_FILE, json.dumps(fixed, indent=2) + "\n")
    keep_identity(folder, identity)


def check_study(folder: Path, settings: Mapping[str, str]) -> None:
    """Checks that a directory is new, or holds a comparison with the same settings.

    Args:
        folder: The directory; it need not exist.
        settings: Flag values by name; those that only add runs may differ.

    Raises:
        InputError: It does not.
    """
    check_is_directory(folder)
    path = folder / STUDY_FILE
    if not path.exists():
        if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise InputError(
                f"--output_dir={folder} holds files that no run of etd_compare made. Choose an "
                "empty or new directory."
            )
        return
    if changed := changed_flags(read_json_object(path), settings, _FREE):
        raise InputError(
            f"{folder} holds a comparison with other settings: {changed}. Arms can only "
            "be compared under equal ones: choose another --output_dir."
        )
