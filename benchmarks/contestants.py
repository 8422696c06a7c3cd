"""Contestants of a benchmark, each a process of its own, so that thread pools do not meet."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Answer = Callable[[str], Any]


def serve(answer: Answer) -> None:
    """Worker process: answers each line of standard input with a line of JSON."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps([answer(line.strip())]), flush=True)


@contextlib.contextmanager
def started(command: Sequence[str], names: Sequence[str]) -> Iterator[Callable[[str, str], Any]]:
    """Starts `command --worker NAME` for each name; yields a function of name and request."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, *command, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in names
    }

    def ask(name: str, request: str) -> Any:
        worker = processes[name]
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(request + "\n")
            worker.stdin.flush()
            while line := worker.stdout.readline():
                if line.startswith("[") and line.endswith("]\n"):  # others print there, too
                    return json.loads(line)[0]
        return sys.exit(f"The process of {name!r} ended; run it with --worker={name!r} to see why.")

    try:
        yield ask
    finally:
        for worker in processes.values():
            worker.kill()
            worker.wait()
