"""Ending a loop in good order when a signal asks for it."""

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
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

    with contextlib.ExitStack() as handled:
        # Not in the main thread: there the signals are left to whoever has them.
        with contextlib.suppress(ValueError):
            handled.enter_context(handling(stop_signals(), remember))
        yield caught


@contextlib.contextmanager
def handling(
    signals: Iterable[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Calls a function on some signals until the block ends; only the main thread may."""
    previous = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, before in previous.items():
            signal.signal(signum, before)
