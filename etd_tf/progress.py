"""Progress of long work: how much is done, how fast, and when it ends."""

import contextlib
import sys
import time
from collections.abc import Iterator

_REFRESH_SECONDS = 0.2  # on a terminal
_LINE_SECONDS = 10.0  # in a log file


class Tracker:
    """Counts work and shows rate and remaining time on standard error.

    On a terminal one line is redrawn; elsewhere a line is written every ten seconds, so
    that logs stay readable.

    Args:
        description: What is being done, e.g. `"Scoring units"`.
        total: Amount of work, or None when it is not known.
        unit: Name of one piece of work, e.g. `"examples"`.
        done: Work that an earlier run has done; it does not count towards the rate.
        quiet_seconds: Nothing is shown of work that is done within this time.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        *,
        done: int = 0,
        quiet_seconds: float = 0.0,
    ) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self._initial = done
        self.note = ""
        self._started = self._shown = time.monotonic()
        self._live = sys.stderr.isatty()
        self._quiet_until = self._started + quiet_seconds

    def advance(self, count: int = 1, note: str = "") -> None:
        """Records finished work.

        Args:
            count: Pieces of work just finished.
            note: Text shown behind the rate, e.g. the current loss.
        """
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now >= self._quiet_until and now - self._shown >= (
            _REFRESH_SECONDS if self._live else _LINE_SECONDS
        ):
            self._shown = now
            self._write()

    def finish(self) -> None:
        """Writes the last state and ends the line."""
        if time.monotonic() < self._quiet_until:
            return
        self._write()
        if self._live:
            sys.stderr.write("\n")

    @property
    def rate(self) -> float:
        """Pieces of work a second since the start."""
        return (self.done - self._initial) / max(time.monotonic() - self._started, 1e-9)

    def _write(self) -> None:
        parts = [f"{self.done:,} {self.unit}" if self.total is None else self._fraction()]
        parts.append(f"{self.rate:,.1f} {self.unit}/s")
        if self.total is not None and self.rate > 0:
            parts.append(f"ETA {_clock(max(self.total - self.done, 0) / self.rate)}")
        if self.note:
            parts.append(self.note)
        line = f"{self.description}: {'  '.join(parts)}"
        sys.stderr.write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()

    def _fraction(self) -> str:
        total = self.total or 0
        percent = 100.0 * self.done / total if total else 100.0
        return f"{self.done:,}/{total:,} {self.unit} ({percent:.0f} %)"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


@contextlib.contextmanager
def track(
    description: str, total: int | None, unit: str, *, done: int = 0, quiet_seconds: float = 0.0
) -> Iterator[Tracker]:
    """Shows the progress of a block of work; see `Tracker` for the arguments."""
    tracker = Tracker(description, total, unit, done=done, quiet_seconds=quiet_seconds)
    try:
        yield tracker
    finally:
        tracker.finish()
