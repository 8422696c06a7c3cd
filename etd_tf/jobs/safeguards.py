"""What keeps a job from its own inputs, and from going on with others than it began with."""

import glob
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import read_json_object

IDENTITY_FILE = "identity.json"
"""What `keep_identity` writes."""

Inputs = Mapping[str, Iterable[str | Path | None]]
"""What a job reads, by flag: files, directories, globs, other names; None is nothing."""


def keep_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    """Notes what the names in a job's flags stand for, or checks that it is the same still.

    Args:
        folder: The output directory.
        identity: Fingerprints and the like by name, as JSON values.

    Raises:
        InputError: The work was begun with something else, or the file is damaged.
    """
    path = folder / IDENTITY_FILE
    if not path.exists():
        write_atomically(path, json.dumps(identity, indent=2) + "\n")
        return
    stored = read_json_object(path)
    changed = [name for name, value in identity.items() if stored.get(name) != value]
    if changed:
        raise InputError(
            f"{folder} was begun with another {' and another '.join(changed)} than the same "
            "flags name now. Choose another --output_dir, or put back what it was begun with."
        )


def changed_flags(
    stored: Mapping[str, Any], settings: Mapping[str, str], free: frozenset[str]
) -> str:
    """Says which flags differ from those that work was begun with.

    Args:
        stored: Flag values by name, as they were.
        settings: Flag values by name, as they are; a flag that is left out is empty.
        free: Flags that may differ.

    Returns:
        The differences; empty where there are none.
    """
    return "; ".join(
        f"--{name} was {stored.get(name, '')!r} and is now {settings.get(name, '')!r}"
        for name in sorted({*stored, *settings} - free)
        if stored.get(name, "") != settings.get(name, "")
    )


def check_spares_inputs(folder: Path, inputs: Inputs) -> None:
    """Checks that overwriting a directory would not delete what the same run reads.

    Args:
        folder: The directory that would be emptied.
        inputs: What the run reads.

    Raises:
        InputError: Some of it is in `folder`.
    """
    for flag, names in inputs.items():
        for name in names:
            if name is not None and any(_is_inside(path, folder) for path in _files(str(name))):
                raise InputError(
                    f"--overwrite would delete --{flag}={name}, which is in --output_dir. Copy it "
                    "elsewhere, or choose another --output_dir."
                )


def check_cache_is_apart(folder: Path, cache_dir: Path) -> None:
    """Checks that what runs share is not kept in the directory of one of them.

    Args:
        folder: The output directory.
        cache_dir: Where prepared corpora are kept.

    Raises:
        InputError: It is.
    """
    if _is_inside(cache_dir, folder):
        raise InputError(
            f"--cache_dir={cache_dir} is in --output_dir={folder}, which is for what one run "
            "makes. Choose a cache outside of it, which later runs can use, too."
        )


def _files(name: str) -> list[Path]:
    """What a name stands for on disk, if anything."""
    name = os.path.expanduser(name)
    found = [name] if os.path.lexists(name) else glob.glob(name, recursive=True)
    # Google's checkpoints are named without the ends of their files.
    return [Path(path) for path in (*found, *glob.glob(f"{glob.escape(name)}.index"))]


def _is_inside(path: Path, folder: Path) -> bool:
    # Not Path.resolve(), which raises on links to themselves; reading them says so better.
    inner, outer = (Path(os.path.realpath(place.expanduser())) for place in (path, folder))
    return inner.is_relative_to(outer)
