"""Reads damaged files one after the other and notes what should not have happened.

A reader may accept a file or refuse it with an `EtdError`. Anything else is a defect: another
exception, a read that takes seconds, memory out of proportion to the files, a file opened
outside the folder. A crash of the process is found by whoever started it.
"""

import contextlib
import dataclasses
import gc
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from etd_tf.errors import EtdError
from tests.fuzz.mutation import Mutator

MAX_SECONDS = 10.0  # of CPU for one file of some kilobytes, where a machine may be busy
_ENDED_AFTER = 60.0  # of CPU
_HANGS_AFTER = 600.0  # of any time
MAX_BYTES, MAX_FACTOR = 96 << 20, 64  # memory for one file; times its size
_SPARE_BYTES = 2 << 30  # of address space
_SHOWN = 3  # examples of each kind of defect


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader and valid files for it.

    Attributes:
        name: Of the reader, as in the table.
        prepare: Writes the valid files into an empty folder; returns those to damage, by name
            relative to the folder, with how to damage them.
        read: Reads the folder.
        extremes: Contents that mutation would hardly find, by file name; each is read once.
        weight: Share of a run's inputs, relative to other readers.
    """

    name: str
    prepare: Callable[[Path], Mapping[str, Mutator]]
    read: Callable[[Path], object]
    extremes: Callable[[], list[tuple[str, bytes]]] = list
    weight: float = 1.0


@dataclasses.dataclass
class Outcome:
    """Counts of one reader.

    Attributes:
        name: The reader.
        inputs: Files read.
        refused: Refused with an `EtdError`.
        accepted: Read without complaint.
        defects: Number by kind.
        examples: Seeds and details of some defects.
        slowest: CPU seconds of the slowest read.
        largest: Most memory of one read, in bytes.
    """

    name: str
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    defects: dict[str, int] = dataclasses.field(default_factory=dict)
    examples: list[str] = dataclasses.field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0

    def add_defect(self, kind: str, details: str) -> None:
        """Counts a defect and keeps the details of the first ones of its kind."""
        self.defects[kind] = self.defects.get(kind, 0) + 1
        if self.defects[kind] <= _SHOWN:
            self.examples.append(f"{kind}: {details}")

    def add(self, other: "Outcome") -> None:
        """Adds the counts of another process."""
        self.inputs += other.inputs
        self.refused += other.refused
        self.accepted += other.accepted
        for kind, count in other.defects.items():
            self.defects[kind] = self.defects.get(kind, 0) + count
        self.examples += other.examples
        self.slowest = max(self.slowest, other.slowest)
        self.largest = max(self.largest, other.largest)


class _Hang(BaseException):
    """A read took so long that it was ended."""


class Watch:
    """Notes files that Python opens outside of the permitted folders.

    Audit hooks stay for the life of a process; there is one, switched on and off.
    """

    def __init__(self) -> None:
        self._allowed: tuple[str, ...] = ()
        self.strayed: list[str] = []
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Watches until the block ends."""
        ours = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
        self._allowed = (f"{folder}/", "/proc/", "/sys/", "/dev/", "/usr/", "/etc/ld", *ours)
        self.strayed.clear()
        try:
            yield
        finally:
            self._allowed = ()

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._allowed or event not in ("open", "os.listdir", "glob.glob", "os.remove"):
            return
        path = arguments[0]
        if isinstance(path, bytes):
            path = path.decode("utf-8", "replace")
        if isinstance(path, str) and "/" in path:  # others are names inside an open folder
            found = str(Path(path).absolute()) if ".." not in path else str(Path(path).resolve())
            if not f"{found}/".startswith(self._allowed):
                self.strayed.append(path)


_WATCH: list[Watch] = []


def run_target(target: Target, folder: Path, *, inputs: int, seed: int, first: int = 0) -> Outcome:
    """Reads damaged files.

    Args:
        target: The reader.
        folder: An empty folder on a fast disk; `last` in it says how many inputs were begun.
        inputs: How many files, its extremes included.
        seed: Input i is made from `(seed, i)`, whatever came before.
        first: Inputs to leave out, where an earlier process ended.

    Returns:
        What happened.
    """
    if not _WATCH:
        _WATCH.append(Watch())
    outcome = Outcome(target.name)
    inside = folder / "inside"
    inside.mkdir()
    mutators = target.prepare(inside)
    originals = {name: (inside / name).read_bytes() for name in mutators}
    for name, content in originals.items():  # what an escape from the folder would find
        (folder / Path(name).name).write_bytes(content)
    size = sum(path.stat().st_size for path in inside.rglob("*") if path.is_file())
    for _ in range(2):  # valid; and imports happen now
        target.read(inside)
    with _limits(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extremes = target.extremes()
        for number in range(first, max(inputs, len(extremes))):
            (folder / "last").write_text(str(number))
            generator = random.Random(f"{seed}/{target.name}/{number}")
            if number < len(extremes):
                name, content = extremes[number]
            else:
                name = generator.choice(list(mutators))
                content = mutators[name](generator, originals[name])
            _read(
                target, inside, outcome, name, content, f"seed {seed} input {number} {name}", size
            )
            (inside / name).write_bytes(originals[name])
    return outcome


def _read(
    target: Target,
    folder: Path,
    outcome: Outcome,
    name: str,
    content: bytes,
    where: str,
    size: int,
) -> None:
    """Reads one damaged file and judges what happened."""
    (folder / name).write_bytes(content)
    outcome.inputs += 1
    before, started = _reset_peak(), time.process_time()
    signal.setitimer(signal.ITIMER_REAL, _HANGS_AFTER)
    signal.setitimer(signal.ITIMER_PROF, _ENDED_AFTER)
    try:
        with _WATCH[0].over(folder):
            target.read(folder)
        outcome.accepted += 1
    except EtdError as error:
        outcome.refused += 1
        if any(isinstance(cause, MemoryError) for cause in _causes(error)):
            outcome.add_defect("MemoryError behind an EtdError", f"{where}: {error}"[:500])
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        kind = f"{type(error).__name__} at {_place(error)}"
        outcome.add_defect(kind, f"{where}: {str(error)[:300]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, grown = time.process_time() - started, _peak() - before
    outcome.slowest = max(outcome.slowest, seconds)
    outcome.largest = max(outcome.largest, grown)
    if seconds > MAX_SECONDS:
        outcome.add_defect("slow", f"{where}: {seconds:.1f} s of CPU")
    if grown > MAX_BYTES + MAX_FACTOR * (size + len(content)):
        outcome.add_defect("memory", f"{where}: {grown >> 20} MB for {len(content)} bytes")
    if _WATCH[0].strayed:
        outcome.add_defect("opened outside", f"{where}: {sorted(set(_WATCH[0].strayed))}")
    if outcome.inputs % 500 == 0:
        gc.collect()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _place(error: BaseException) -> str:
    """The innermost line of the library, so that equal defects count as one kind."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/etd_tf/" in frame.filename]
    frame = (ours or frames)[-1]
    return f"{frame.filename.rpartition('/etd_tf/')[2]}:{frame.lineno}"


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Ends reads that hang, and refuses memory that a small file should not need."""

    def stop(_: int, __: FrameType | None) -> None:
        raise _Hang(f"no end after {_ENDED_AFTER:.0f} s of CPU or {_HANGS_AFTER:.0f} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    previous = [
        (number, signal.signal(number, stop)) for number in (signal.SIGALRM, signal.SIGPROF)
    ]
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + _SPARE_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in previous:
            signal.signal(number, handler)


def _status(name: str) -> int:
    """A size of this process in bytes, see proc(5); 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))
    except (OSError, StopIteration):
        return 0


def _reset_peak() -> int:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak()


def _peak() -> int:
    return _status("VmHWM")
