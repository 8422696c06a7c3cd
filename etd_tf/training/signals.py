"""Ending a loop in good order when a signal asks for it."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from etd_tf.errors import Interrupted


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them.

    Yields:
        A list that gets the number of the first signal that arrives.

    Raises:
        Interrupted: A second signal arrived: whoever sent it does not want to wait.
    """
    caught: list[int] = []

    def remember(signum: int, _: FrameType | None) -> None:
        if caught:
            raise Interrupted(signum, "A second signal came before the step was saved.")
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
