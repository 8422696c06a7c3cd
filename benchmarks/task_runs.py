"""Runs of etd_evaluate and etd_transfer that a table is made of.

Each is a directory of its own; a finished one is read, and an unfinished one goes on. Used by other
scripts of this folder.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from etd_tf import tasks
from etd_tf.checkpoints import load_checkpoint
from etd_tf.cli import evaluate, transfer
from etd_tf.cli.app import run_command

COMMANDS = {"etd_evaluate": evaluate.COMMAND, "etd_transfer": transfer.COMMAND}


@dataclasses.dataclass(frozen=True)
class Run:
    """A command that has ended.

    Attributes:
        directory: Where it wrote.
        results: Its `results.json`.
    """

    directory: Path
    results: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The first seed's fine-tuned model."""
        return self.directory / "model"

    @property
    def scores(self) -> list[float]:
        """The metric that ranks models on the first split, of each seed."""
        metric = tasks.TASKS[self.results["settings"]["task"]].metric
        values: list[float] = next(iter(self.results["summary"].values()))[metric]["values"]
        return values

    @property
    def seconds(self) -> float:
        """Time of all trainings."""
        return sum(cell["seconds"] for cell in self.results["cells"])


def finished(command: str, directory: Path, flags: Sequence[str]) -> Run:
    """Runs a command in a directory, unless it has ended there.

    The results of a command that is begun with other flags are not taken: it is refused.
    """
    results = directory / "results.json"
    given = directory.parent / f"{directory.name}.flags.json"
    if given.is_file() and json.loads(given.read_text("utf-8")) != [command, *flags]:
        sys.exit(f"{directory} was made with other flags: see {given}. Name another --output_dir.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    given.write_text(json.dumps([command, *flags]) + "\n", "utf-8")
    values = json.loads(results.read_text("utf-8")) if results.is_file() else {}
    if not values.get("finished"):
        print(f"{command} {' '.join(flags)} --output_dir={directory}", flush=True)
        status = run_command(COMMANDS[command], [*flags, f"--output_dir={directory}"])
        if status:
            sys.exit(status)
        values = json.loads(results.read_text("utf-8"))
    return Run(directory, values)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `training_flags` and `task_flags` read."""
    parser.add_argument("--output_dir", required=True, type=Path, help="all runs; kept")
    parser.add_argument("--glue_dir", help="GLUE's own layout")
    parser.add_argument("--squad_dir", help="SQuAD's own files")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--learning_rates", default="1e-4,3e-4")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, help="default: the task's own")


def training_flags(options: argparse.Namespace, **changes: Any) -> list[str]:
    """Flags of a training."""
    names = ("seeds", "learning_rates", "epochs", "batch_size")
    values = {name: getattr(options, name) for name in names} | changes
    return [f"--{name}={value}" for name, value in values.items()]


def task_flags(options: argparse.Namespace, task: str) -> list[str]:
    """Flags that name a task and its data."""
    setting = tasks.TASKS[task].data_setting
    flags = [f"--task={task}", f"--{setting}={getattr(options, setting)}"]
    return flags + [f"--max_length={options.max_length}"] * (options.max_length is not None)


def training_flops(
    options: argparse.Namespace, task: str, model: str | Path, stages: int = 1
) -> tuple[int, int]:
    """Operations of a model on the training texts, from their mean length in tokens.

    Returns:
        One forward pass over all of them; and one training of `stages` stages: per text and
        epoch a forward and a backward pass, which counts twice.
    """
    checkpoint = load_checkpoint(model)
    values = {tasks.TASKS[task].data_setting: None, "max_length": options.max_length}
    setting = tasks.TASKS[task].data_setting
    values[setting] = getattr(options, setting)
    sequences = tasks.get(task, **values).experiment(checkpoint).training_set().sequences
    length = max(round(float(sequences.lengths.mean())), 1)
    forward = checkpoint.config.flops(length) * len(sequences)
    return forward, 3 * forward * options.epochs * stages


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table."""
    for line in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(line) + " |")
