"""The results file of a fine-tuning run, written after every training."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from etd_tf.errors import InputError
from etd_tf.evaluation.experiment import Scores
from etd_tf.evaluation.options import OUTPUTS
from etd_tf.storage.atomic import remove_path, write_atomically
from etd_tf.storage.json_files import read_json_object

RESULTS_FILE = "results.json"
SELECTION, FINAL = "selection", "final"
HELD_OUT = "held_out"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
        phase: `SELECTION` (part of the training data) or `FINAL` (all of it).
        learning_rate: Its peak.
        seed: Its seed.
        training_loss: Mean of the last epoch; None where the loss diverged.
        seconds: Training and evaluation.
        scores: Metrics by split; empty where the loss diverged.
    """

    phase: str
    learning_rate: float
    seed: int
    training_loss: float | None
    seconds: float
    scores: dict[str, Scores]


class RunRecord:
    """What is done of a run, in memory and in `results.json`.

    Args:
        directory: The run's directory; None keeps the record in memory.
        settings: What defines the run.
        cells: Trainings already done.
        outputs: Names beside the record that the run writes.

    Attributes:
        directory: As given.
        cells: Trainings done, in order.
    """

    def __init__(
        self,
        directory: Path | None,
        settings: Mapping[str, Any],
        cells: list[Cell],
        outputs: Sequence[str] = (),
    ) -> None:
        self.directory, self.cells = directory, cells
        self._settings, self._outputs = settings, tuple(outputs)
        self._earlier: tuple[str, ...] = ()  # outputs of a run that this one replaces

    @classmethod
    def open(
        cls,
        directory: str | Path | None,
        settings: Mapping[str, Any],
        *,
        overwrite: bool,
        outputs: Sequence[str] = (),
    ) -> "RunRecord":
        """Opens a directory for a run, continuing what an interrupted one left.

        Args:
            directory: The directory, or None.
            settings: What defines the run; an earlier one must have the same.
            overwrite: Forget a finished or another run.
            outputs: Those of `OUTPUTS` that the run will write.

        Returns:
            The record.

        Raises:
            InputError: The directory cannot be written, holds a finished or other run, or
                `outputs` of something that is no such run.
        """
        settings = json.loads(json.dumps(settings))  # as it will be read back
        if directory is None:
            return cls(None, settings, [], outputs)
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {directory}: {error.strerror}.") from error
        path = directory / RESULTS_FILE
        cells: list[Cell] = []
        if path.exists():
            try:
                cells = _read_cells(path, settings)
            except InputError:  # it is finished or of another run
                if not overwrite:
                    raise
        record = cls(directory, settings, cells, outputs)
        known = _read_outputs(path)
        _check_nothing_lost(directory, set(outputs) - set(known))
        record._earlier = () if cells else known
        if not path.exists():  # an earlier run's results stay until there are new ones
            record._save(finished=False, outcome={})
        return record

    def find(self, phase: str, learning_rate: float, seed: int) -> Cell | None:
        """Returns a training that is done, or None."""
        wanted = (phase, learning_rate, seed)
        return next((c for c in self.cells if (c.phase, c.learning_rate, c.seed) == wanted), None)

    def output(self, name: str) -> Path:
        """Gives a place to write to, of which nothing of a replaced run is left.

        Args:
            name: One of the run's outputs.

        Returns:
            Its path.

        Raises:
            ValueError: The run has no such output, or no directory.
        """
        if self.directory is None or name not in self._outputs:
            raise ValueError(f"This run has no output {name!r}.")
        self._remove_earlier()
        return self.directory / name

    def add(self, cell: Cell) -> None:
        """Records a training and saves the file."""
        self._remove_earlier()
        self.cells.append(cell)
        self._save(finished=False, outcome={})

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Saves the outcome and marks the run as finished."""
        self._remove_earlier()
        self._save(finished=True, outcome=outcome)

    def _remove_earlier(self) -> None:
        if self.directory is not None and self._earlier:
            self._save(finished=False, outcome={})  # names them until they are gone
            for name in self._earlier:
                remove_path(self.directory / name)
            self._earlier = ()

    def _save(self, *, finished: bool, outcome: Mapping[str, Any]) -> None:
        if self.directory is None:
            return
        values = {
            **outcome,
            "settings": self._settings,
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
            "outputs": sorted({*self._outputs, *self._earlier}),
            "finished": finished,
        }
        write_atomically(
            self.directory / RESULTS_FILE, json.dumps(values, indent=2, allow_nan=False) + "\n"
        )


def _read_outputs(path: Path) -> tuple[str, ...]:
    """Names beside a record that its run wrote; none where it does not say."""
    with contextlib.suppress(InputError):
        listed = read_json_object(path).get("outputs")
        return tuple(name for name in OUTPUTS if isinstance(listed, list) and name in listed)
    return ()


def _check_nothing_lost(directory: Path, outputs: Iterable[str]) -> None:
    """Refuses a directory in which a run's output would take the place of something else."""
    found = sorted(name for name in outputs if (directory / name).exists())
    if found:
        raise InputError(
            f"{directory} holds {', '.join(found)}, of which no {RESULTS_FILE} says that an "
            "evaluation made it. Choose an empty or new directory."
        )


def _read_cells(path: Path, settings: Mapping[str, Any]) -> list[Cell]:
    state = read_json_object(path)
    if state.get("finished"):
        raise InputError(
            f"{path} holds a finished run. Choose another directory or pass overwrite=True."
        )
    found = state.get("settings")
    if found != settings and state.get("cells") != []:  # else nothing would be lost
        known = found if isinstance(found, dict) else {}
        changed = sorted(k for k in {*settings, *known} if settings.get(k) != known.get(k))
        raise InputError(
            f"{path} is of an unfinished run with another {', '.join(changed)}. Repeat its "
            "settings to continue it, choose another directory or pass overwrite=True."
        )
    try:
        cells = [Cell(**cell) for cell in state["cells"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({error}). Pass overwrite=True to start anew."
        ) from error
    logging.info("Continuing %s: %d trainings are done.", path, len(cells))
    return cells
