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
from etd_tf.evaluation.options import OUTPUTS, PAGE_FILE
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.workspace import Layout, Workspace

RESULTS_FILE = "results.json"
SELECTION, FINAL = "selection", "final"
HELD_OUT = "held_out"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
        phase: `SELECTION` (part of the training data) or `FINAL` (all of it).
        learning_rate: Its peak.
        training_loss: Mean of the last epoch; None where the loss diverged.
        seconds: Training and evaluation.
        scores: Metrics by split; empty where the loss diverged.
        curves: Training loss along the way, by stage.
    """

    phase: str
    learning_rate: float
    seed: int
    training_loss: float | None
    seconds: float
    scores: dict[str, Scores]
    curves: dict[str, list[float]] = dataclasses.field(default_factory=dict)


class RunRecord:
    """What is done of a run, in memory and in `results.json`.

    Args:
        workspace: The run's directory; None keeps the record in memory.
        cells: Trainings already done.
        outputs: Names beside the record that the run writes.

    Attributes:
        cells: Trainings done, in order.
        details: What the first seed's model got right and wrong, by split.
    """

    def __init__(
        self, workspace: Workspace | None, cells: list[Cell], outputs: Sequence[str] = ()
    ) -> None:
        self.cells = cells
        self.details: dict[str, Any] = {}
        self._workspace, self._outputs = workspace, tuple(outputs)
        self._begun = bool(cells)

    @classmethod
    def open(
        cls,
        directory: str | Path | None,
        settings: Mapping[str, Any],
        *,
        overwrite: bool,
        outputs: Sequence[str] = (),
        command: str = "etd_evaluate",
    ) -> "RunRecord":
        """Opens a directory for a run, continuing what an interrupted one left.

        Args:
            directory: The directory, or None.
            settings: What defines the run; an earlier one must have the same.
            overwrite: Forget a finished or another run, once there is something new.
            outputs: Those of `OUTPUTS` that the run will write.
            command: What makes the run, for messages.

        Raises:
            InputError: The directory cannot be written, holds a finished or other run, or
                `outputs` of something that is no such run.
        """
        if directory is None:
            return cls(None, [], outputs)
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {directory}: {error.strerror}.") from error
        known = _read_outputs(directory / RESULTS_FILE)
        workspace = Workspace(
            Layout(command, RESULTS_FILE, known, record="settings"),
            directory,
            json.loads(json.dumps(settings)),  # as they will be read back
            overwrite,
        )
        workspace.check()
        outputs = _without_foreign_page(directory, outputs, known)
        _check_nothing_lost(directory, set(outputs) - set(known))
        record = cls(workspace, [], outputs)
        try:  # also with `overwrite`, so that the same command continues it
            if workspace.continues():
                record._continue(directory / RESULTS_FILE)
        except InputError:  # damaged
            if not overwrite:
                raise
        return record

    def _continue(self, path: Path) -> None:
        """Takes over what an interrupted run left."""
        self.cells = _read_cells(path)
        self._begun = bool(self.cells)
        details = read_json_object(path).get("details")
        self.details = details if isinstance(details, dict) else {}

    @property
    def directory(self) -> Path | None:
        """The run's directory."""
        return None if self._workspace is None else self._workspace.path

    def find(self, phase: str, learning_rate: float, seed: int) -> Cell | None:
        """Returns a training that is done, or None."""
        wanted = (phase, learning_rate, seed)
        return next((c for c in self.cells if (c.phase, c.learning_rate, c.seed) == wanted), None)

    def output(self, name: str) -> Path:
        """Gives a place to write to, of which nothing of a replaced run is left.

        Raises:
            ValueError: The run has no such output, or no directory.
        """
        if self._workspace is None or name not in self._outputs:
            raise ValueError(f"This run has no output {name!r}.")
        if not self._begun:
            self._save(finished=False, outcome={})  # names the output before it is there
        return self._workspace.path / name

    def add(self, cell: Cell) -> None:
        """Records a training and saves the file."""
        self.cells.append(cell)
        self._save(finished=False, outcome={})

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Saves the outcome and marks the run as finished."""
        self._save(finished=True, outcome=outcome)

    def _save(self, *, finished: bool, outcome: Mapping[str, Any]) -> None:
        if self._workspace is None:
            return
        if not self._begun:  # an earlier run's results stay until there are new ones
            self._workspace.clear()
            self._begun = True
        values = {
            **outcome,
            **({"details": self.details} if self.details else {}),
            "settings": self._workspace.settings,
            "cells": [dataclasses.asdict(cell) for cell in self.cells],
            "outputs": sorted(self._outputs),
            "finished": finished,
        }
        path = self._workspace.path / RESULTS_FILE
        write_atomically(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def _read_outputs(path: Path) -> tuple[str, ...]:
    """Names beside a record that its run wrote; none where it does not say."""
    with contextlib.suppress(InputError):
        listed = read_json_object(path).get("outputs")
        return tuple(name for name in OUTPUTS if isinstance(listed, list) and name in listed)
    return ()


def _without_foreign_page(
    directory: Path, outputs: Sequence[str], known: Sequence[str]
) -> tuple[str, ...]:
    """Leaves out the page where the directory has one of something else."""
    if PAGE_FILE in known or PAGE_FILE not in outputs or not (directory / PAGE_FILE).exists():
        return tuple(outputs)
    logging.warning(
        "%s is of another run and stays; the evaluation's page is not written.",
        directory / PAGE_FILE,
    )
    return tuple(name for name in outputs if name != PAGE_FILE)


def _check_nothing_lost(directory: Path, outputs: Iterable[str]) -> None:
    """Refuses a directory in which a run's output would take the place of something else."""
    found = sorted(name for name in outputs if (directory / name).exists())
    if found:
        raise InputError(
            f"{directory} holds {', '.join(found)}, of which no {RESULTS_FILE} says that an "
            "evaluation made it. Choose an empty or new directory."
        )


def _read_cells(path: Path) -> list[Cell]:
    try:
        cells = [Cell(**cell) for cell in read_json_object(path)["cells"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({error}). Pass overwrite=True to start anew."
        ) from error
    logging.info("Continuing %s: %d trainings are done.", path, len(cells))
    return cells
