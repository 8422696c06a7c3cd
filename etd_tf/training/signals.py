"""Ending a loop in good order when a signal asks for it."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from etd_tf.errors import Interrupted

# SIGHUP comes with a closed terminal, SIGUSR1 from batch systems shortly before the time is up.
_NOTICES = (signal.SIGHUP, signal.SIGUSR1)
_REQUESTS = (signal.SIGTERM, signal.SIGINT)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Signals that ask a process to end.

    Returns:
        SIGTERM, SIGINT, SIGHUP and SIGUSR1, without SIGHUP where it is ignored, as under `nohup`.
    """
    return tuple(
        signum
        for signum in (*_REQUESTS, *_NOTICES)
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN
    )


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collects the signals of `stop_signals` instead of dying of them.

    Yields:
        A list that gets the number of the first signal that arrives.

    Raises:
        Interrupted: SIGTERM or SIGINT arrived as the second one: whoever sent it does not want
            to wait.
    """
    caught: list[int] = []

    def remember(signum: int, _: FrameType | None) -> None:
        if caught and signum in _NOTICES:
            return  # a shell repeats its terminal's SIGHUP
        if caught:
            raise Interrupted(signum, "A second signal came before the step was saved.")
        caught.append(signum)

    try:
        previous = {s: signal.signal(s, remember) for s in stop_signals()}
    except ValueError:  # not the main thread: leave the signals to whoever has them
        yield caught
        return
    try:
        yield caught
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
