"""Ending a loop in good order when a signal asks for it."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them.

    Yields:
        A list that gets the number of each signal that arrives.
    """
    caught: list[int] = []

    def remember(signum: int, _: FrameType | None) -> None:
        caught.append(signum)

    signals = (signal.SIGTERM, signal.SIGINT)
    try:
        previous = {s: signal.signal(s, remember) for s in signals}
    except ValueError:  # not the main thread: leave the signals to whoever has them
        yield caught
        return
    try:
        yield caught
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
