"""`metrics.jsonl` and TensorBoard event files of a run."""

import json
import math
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.storage.atomic import sync, write_atomically

_MAX_WHOLE = 1 << 53  # larger whole numbers are no floats


class MetricsLog:
    """Appends one JSON object a line, and the same numbers for TensorBoard.

    Args:
        path: The `metrics.jsonl` file; None writes nothing anywhere.
        tensorboard: Directory of event files, or None for none.
        resume_step: Lines of later steps are removed first: the resumed run will write
            them again. 0 starts anew.

    Attributes:
        latest: The last numbers of each split.
    """

    def __init__(
        self, path: Path | None, tensorboard: Path | None = None, *, resume_step: int = 0
    ) -> None:
        self.latest: dict[str, dict[str, Any]] = {}
        self._file: IO[str] | None = None
        self._writers: dict[str, Any] = {}
        self._tensorboard = tensorboard
        self._resume_step = resume_step
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(path) if 0 < resume_step >= line["step"]]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.latest = {line["split"]: line for line in kept if "split" in line}
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Records numbers of one step.

        Args:
            step: Finished optimizer steps.
            split: `"train"` or `"validation"`.
            values: Numbers by name; JSON knows no infinity and NaN and gets null for them.
        """
        known = {k: value if math.isfinite(value) else None for k, value in values.items()}
        line = {"step": step, "split": split, **known}
        self.latest[split] = line
        if self._file is None:
            return
        self._file.write(json.dumps(line) + "\n")
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
            self._write_header(self._writers[split])
        scalars = [
            tf.compat.v1.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        summary = tf.compat.v1.Summary(value=scalars)
        event = tf.compat.v1.Event(wall_time=time.time(), step=step, summary=summary)
        self._writers[split].write(event.SerializeToString())
        self._writers[split].flush()

    def _write_header(self, writer: Any) -> None:
        header = tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2")
        writer.write(header.SerializeToString())
        # Makes TensorBoard drop what an interrupted sitting wrote after its last checkpoint.
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        step = self._resume_step + bool(self._resume_step)
        resumed = tf.compat.v1.Event(wall_time=time.time(), step=step, session_log=start)
        writer.write(resumed.SerializeToString())

    def close(self) -> None:
        """Flushes everything to disk."""
        if self._file is not None:
            sync(self._file.fileno())
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
            _check_line(values)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                return
            raise InputError(f"{path}:{number} is not a metrics line ({error}).") from error
        yield values


def _check_line(values: Any) -> None:
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        raise ValueError("no integer step")
    if not isinstance(values.get("split", ""), str):
        raise ValueError("a split that is no text")
    if any(isinstance(value, int) and abs(value) > _MAX_WHOLE for value in values.values()):
        raise ValueError("a number that is too large")
