"""`metrics.jsonl` and TensorBoard event files of a run."""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.files import write_atomically


class MetricsLog:
    """Appends one JSON object a line, and the same numbers for TensorBoard.

    Args:
        path: The `metrics.jsonl` file.
        tensorboard: Directory of event files, or None for none.
        resume_step: Lines of later steps are removed first: the resumed run will write
            them again.
    """

    def __init__(self, path: Path, tensorboard: Path | None, *, resume_step: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._writers: dict[str, Any] = {}
        self._tensorboard = tensorboard

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Records numbers of one step.

        Args:
            step: Finished optimizer steps.
            split: `"train"` or `"validation"`.
            values: Numbers by name.
        """
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        if self._tensorboard is not None:
            self._write_event(step, split, values)

    def _write_event(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Appends to the split's event file: a TFRecord file of Event messages.

        Written directly because `tf.summary` needs the tensorboard package, which is only
        needed to look at the curves.
        """
        if split not in self._writers:
            folder = Path(str(self._tensorboard)) / split
            folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
            self._writers[split] = tf.io.TFRecordWriter(str(folder / name))
            header = tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2")
            self._writers[split].write(header.SerializeToString())
        scalars = [
            tf.compat.v1.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        summary = tf.compat.v1.Summary(value=scalars)
        event = tf.compat.v1.Event(wall_time=time.time(), step=step, summary=summary)
        self._writers[split].write(event.SerializeToString())
        self._writers[split].flush()

    def close(self) -> None:
        """Flushes everything to disk."""
        os.fsync(self._file.fileno())
        self._file.close()
        for writer in self._writers.values():
            writer.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a `metrics.jsonl`.

    A last line that a killed process left unfinished is passed over.

    Args:
        path: The file; a missing one yields nothing.

    Raises:
        InputError: A line in the middle is not a metrics object; file and line are named.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or not isinstance(values.get("step"), int):
                raise ValueError("no integer step")
        except ValueError as error:
            if number == len(lines):
                return
            raise InputError(f"{path}:{number} is not a metrics line ({error}).") from error
        yield values
