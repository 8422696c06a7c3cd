"""Running the real command in processes that are ended on purpose."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers import REPOSITORY
from tests.jobs.tiny_job import job_flags, write_teacher, write_text

# Long enough to be hit while training; with masking and dropout, whose state must come back.
LONG_RUN = {
    "steps": 150,
    "checkpoint_every": 10,
    "evaluate_every": 25,
    "log_every": 5,
    "masking_rate": 0.2,
    "dropout": 0.1,
}
_PATIENCE_SECONDS = 900.0  # for half a minute of work, where a machine is busy


def _default_sigint() -> None:
    """Undoes the ignored SIGINT that a test run inherits in a shell's background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Job:
    """A job in a folder of its own.

    Attributes:
        out: Its run directory.
        flags: Its flags.
    """

    def __init__(self, folder: Path, **flags: object) -> None:
        self.out = folder / "out"
        self.flags = job_flags(folder, self.out, **{**LONG_RUN, **flags})
        script = str(REPOSITORY / "bin" / "etd_distill")
        self._command = [sys.executable, script, *self.flags]
        self._log = folder / "log.txt"

    def start(self) -> "subprocess.Popen[bytes]":
        with open(self._log, "wb") as log:
            return subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
                cwd=REPOSITORY,
                preexec_fn=_default_sigint,  # noqa: PLW1509 (no threads are started here)
            )

    def finish(self) -> None:
        """Runs to the end."""
        process = self.start()
        try:
            assert process.wait(_PATIENCE_SECONDS) == 0, self.log()
        finally:
            process.kill()

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def end_when(
        self, ready: Callable[[], bool], signum: signal.Signals = signal.SIGKILL
    ) -> tuple[int, float]:
        """Starts the job and sends a signal as soon as something is true.

        Returns:
            The exit status, and the seconds between signal and end.
        """
        process = self.start()
        try:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while process.poll() is None and not ready():
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.002)
            assert process.poll() is None, f"ended before the signal: {self.log()}"
            process.send_signal(signum)
            started = time.monotonic()
            return process.wait(_PATIENCE_SECONDS), time.monotonic() - started
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def checkpoints(self) -> list[int]:
        folder = self.out / "checkpoints"
        return sorted(int(path.name[5:]) for path in folder.glob("step-*"))

    def end_at(self, moment: float) -> int:
        """Starts the job and kills it at a time of the monotonic clock; returns its status."""
        process = self.start()
        try:
            return process.wait(max(moment - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def phase(self, since: float) -> str:
        """What a killed run was doing, judged by what it changed last.

        Args:
            since: Wall-clock time of its start.
        """
        changed = [path for path in self.out.rglob("*") if path.stat().st_mtime > since]
        names = [path.relative_to(self.out).as_posix() for path in changed]
        for name in names:
            if ".partial-" in name or ".old-" in name:
                return f"inside of writing {re.split(r'[.]partial-|[.]old-', name)[0]}"
        if not changed:
            return "before its first write"
        newest = max(changed, key=lambda path: path.stat().st_mtime)
        return f"after {newest.relative_to(self.out).parts[0]}"

    def hidden(self) -> set[str]:
        """Names of hidden files that are left in the run directory."""
        return {path.name for path in self.out.rglob(".*")}

    def reset(self) -> None:
        shutil.rmtree(self.out)


def results_of(out: Path) -> dict[str, bytes]:
    """What must not depend on interruptions."""
    names = ("student/model.safetensors", "plan.json", "metrics.jsonl")
    return {name: (out / name).read_bytes() for name in names}


def make_folder(folder: Path) -> Path:
    """Prepares teacher and text."""
    write_teacher(folder / "teacher")
    write_text(folder / "text.txt")
    return folder
