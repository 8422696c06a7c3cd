"""Errors that etd_tf raises on purpose; everything else is a bug.

Each message says what was received, what was expected and how to fix it. The
commands in `bin/` print them without a traceback and exit with status 2.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any


class EtdError(Exception):
    """Base of every error that etd_tf raises on purpose."""


class InputError(EtdError, ValueError):
    """The user's input (path, file, flag or argument) cannot be used as given."""


class DivergenceError(EtdError, RuntimeError):
    """Training produced a loss or gradient that is not finite."""


class FidelityError(EtdError, RuntimeError):
    """A finished student is less faithful to its teacher than was asked for.

    Args:
        message: How faithful it is, and what may help.
        result: What the job made; all of it is kept.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class WorkerLostError(EtdError, RuntimeError):
    """Another worker process of the training run is gone; a restart continues the run."""


class Interrupted(BaseException):
    """A signal asked the process to end; work done so far has been saved.

    Not an `Exception`, so that no handler takes it for a failure.

    Args:
        signum: The signal's number; commands exit with 128 + signum.
        message: What was saved and how to go on.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


def shortened(names: Sequence[str], most: int = 8) -> str:
    """Joins names for a message, the first of them."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turns input errors that passed through TensorFlow back into `InputError`."""
    try:
        yield
    except Exception as error:
        message = str(getattr(error, "message", ""))  # of a `tf.errors.OpError`
        found = re.search(r"InputError: (.*?)(?:\n+Traceback|\n*\Z)", message, re.DOTALL)
        if found is None:
            raise
        raise InputError(found[1].strip()) from error
