"""Checkpoints of a running distillation: everything that an exact resume needs.

One folder a checkpoint, `step-00000500/` with `state.safetensors` and `state.json`. The
folder appears by a rename when both are on disk, and the JSON holds the tensors' SHA-256,
so that a half-written or damaged checkpoint is never taken for a good one. Input order
and dropout are functions of (seed, step) and need no state.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging

from etd_tf.errors import InputError
from etd_tf.storage.atomic import atomic_directory, sha256
from etd_tf.storage.json_files import read_json_object
from etd_tf.types import Array

_TENSORS, _MANIFEST = "state.safetensors", "state.json"
_FOLDER = re.compile(r"step-(\d{8})")


@dataclasses.dataclass(frozen=True)
class StateStore:
    """The `checkpoints/` folder of a run.

    Attributes:
        directory: Where the checkpoint folders are.
        identity: What must be equal for a checkpoint to continue this run: settings and
            fingerprints by name.
        keep: How many checkpoints stay; older ones are removed after each save.
    """

    directory: Path
    identity: Mapping[str, Any]
    keep: int = 2

    def save(
        self, step: int, variables: Mapping[str, keras.Variable], *, seconds: float = 0.0
    ) -> Path:
        """Writes a checkpoint, with the seconds of all sittings; removes those no longer kept."""
        path = self.directory / f"step-{step:08d}"
        # Not ascontiguousarray, which gives a scalar such as the step counter a dimension.
        tensors = {
            name: np.asarray(keras.ops.convert_to_numpy(variable.value), order="C")
            for name, variable in variables.items()
        }
        with atomic_directory(path, overwrite=True) as scratch:
            safetensors.numpy.save_file(tensors, scratch / _TENSORS)
            manifest = {
                "step": step,
                "seconds": seconds,
                "sha256": sha256(scratch / _TENSORS),
                "identity": dict(self.identity),
            }
            (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        # Later ones than this step are damaged ones that the run went back behind.
        found = self.steps()
        kept = [old for old in found if old <= step][-self.keep :]
        for old in set(found) - set(kept):
            self.discard(old)
        return path

    def discard(self, step: int) -> None:
        """Removes a checkpoint, if there is one of this step."""
        shutil.rmtree(self.directory / f"step-{step:08d}", ignore_errors=True)

    def steps(self) -> list[int]:
        """Lists the steps that have a checkpoint, ascending."""
        if not self.directory.is_dir():
            return []
        matches = (_FOLDER.fullmatch(path.name) for path in self.directory.iterdir())
        return sorted(int(match.group(1)) for match in matches if match)

    def restore(self, variables: Mapping[str, keras.Variable]) -> tuple[int, float]:
        """Loads the newest undamaged checkpoint into `variables`.

        A damaged one is named in the log and passed over for the one before it, from
        which the run arrives at the same weights.

        Returns:
            The finished steps and the seconds spent on them; zeros where there is no
            checkpoint.

        Raises:
            InputError: The checkpoint belongs to a run with other settings, its tensors
                do not fit, or every checkpoint is damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            folder = self.directory / f"step-{step:08d}"
            problem = self._damage(folder)
            if problem:
                logging.error("Checkpoint %s is damaged (%s) and is not used.", folder, problem)
                continue
            self._check_identity(folder)
            _assign(variables, _read_tensors(folder), folder)
            return step, _seconds(read_json_object(folder / _MANIFEST).get("seconds"))
        if steps:
            raise InputError(
                f"Every checkpoint in {self.directory} is damaged. Remove that folder to start "
                "the training again from the extracted student."
            )
        return 0, 0.0

    def _damage(self, folder: Path) -> str:
        """Says what is wrong with a checkpoint folder; an empty text when nothing is."""
        try:
            expected = read_json_object(folder / _MANIFEST).get("sha256")
            if sha256(folder / _TENSORS) != expected:
                return f"{_TENSORS} does not have the recorded SHA-256"
        except (InputError, OSError) as error:
            return str(error)
        return ""

    def _check_identity(self, folder: Path) -> None:
        stored = read_json_object(folder / _MANIFEST).get("identity")
        stored = stored if isinstance(stored, dict) else {}
        wanted = json.loads(json.dumps(dict(self.identity)))
        changed = [
            f"{name} was {stored.get(name)!r} and is now {wanted.get(name)!r}"
            for name in sorted({*stored, *wanted})
            if stored.get(name) != wanted.get(name)
        ]
        if changed:
            raise InputError(
                f"{folder} belongs to a run with other settings: {'; '.join(changed)}. Use the "
                "same settings to resume, another output_dir, or overwrite=True to start again."
            )


def _read_tensors(folder: Path) -> dict[str, Array]:
    try:
        return safetensors.numpy.load_file(folder / _TENSORS)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / _TENSORS} is no file of tensors ({error}), although its checksum fits. "
            f"Remove {folder}: the run goes on from an older checkpoint, or from the start."
        ) from error


def _seconds(value: Any) -> float:
    """A manifest's seconds; they are only reported, so damaged ones count as none."""
    return float(value) if type(value) in (int, float) and 0.0 <= value < 1e12 else 0.0


def _assign(
    variables: Mapping[str, keras.Variable], tensors: Mapping[str, Array], folder: Path
) -> None:
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != found:
        differing = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
        raise InputError(
            f"{folder} does not fit this model; differing tensors: {', '.join(differing[:5])}. "
            "Use another output_dir, or overwrite=True to start again."
        )
    for name, variable in variables.items():
        variable.assign(tensors[name])
