"""Guards of a job: it deletes nothing that it reads, and shares no directory with its cache."""

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.storage.home import expand

Inputs = Mapping[str, Iterable[str | Path | None]]
"""What a job reads, by flag: files, directories, globs, other names; None is nothing."""


def check_spares_inputs(folder: Path, inputs: Inputs) -> None:
    """Checks that overwriting a directory would not delete what the same run reads."""
    for flag, names in inputs.items():
        for name in names:
            if name is not None and any(_is_inside(path, folder) for path in _files(str(name))):
                raise InputError(
                    f"overwrite=True would delete {flag}={name}, which is in output_dir. Copy it "
                    "elsewhere, or choose another output_dir."
                )


def check_cache_is_apart(folder: Path, cache_dir: Path) -> None:
    """Checks that what runs share is not kept in the directory of one of them."""
    if _is_inside(cache_dir, folder):
        raise InputError(
            f"cache_dir={cache_dir} is in output_dir={folder}, which is for what one run "
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
    inner, outer = (Path(os.path.realpath(expand(place))) for place in (path, folder))
    return inner.is_relative_to(outer)
