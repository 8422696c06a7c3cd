"""The frame of every command: flags, help, errors and exit status."""

import contextlib
import dataclasses
import errno
import importlib
import io
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from absl import flags

from etd_tf.cli.flags import FlagSet
from etd_tf.errors import DivergenceError, EtdError, InputError, Interrupted
from etd_tf.settings import Settings
from etd_tf.training.signals import handling, stop_signals

EXIT_FAILURE, EXIT_INPUT_ERROR = 1, 2
_FULL = (errno.ENOSPC, errno.EDQUOT)
# What the system says of a path that is the user's to mend.
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
_HELP_WIDTH = 96
_LONGEST_PATH = 200  # characters of it that a message repeats
_HELP_FLAGS = ("--help", "-help", "-h", "--helpfull", "--helpshort")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of `bin/`.

    Attributes:
        name: What the user types, e.g. `"etd_distill"`.
        summary: What it makes, with an example; shown above the flags.
        settings: The classes behind the command's flags.
        run: Does the work; gets the parsed flags.
        needs_tensorflow: Whether `run` uses it, so that it is imported quietly before.
    """

    name: str
    summary: str
    settings: tuple[type[Settings], ...]
    run: Callable[[FlagSet], None]
    needs_tensorflow: bool = True

    def main(self) -> None:
        """The entry point: runs the command and ends the process with its exit status."""
        sys.exit(run_command(self))


def run_command(command: Command, argv: Sequence[str] | None = None) -> int:
    """Parses flags and runs a command.

    Args:
        command: The command.
        argv: Arguments without the program's name; default `sys.argv[1:]`.

    Returns:
        The exit status: 0, 2 after an input error, 1 after one that is not the user's, or
        128 + the number of the signal that ended the work.
    """
    _make_printable()
    arguments = list(sys.argv[1:] if argv is None else argv)
    flag_set = FlagSet(*command.settings)
    if any(argument in _HELP_FLAGS for argument in arguments):
        sys.stdout.write(help_text(command, flag_set))
        return 0
    try:
        rest = flag_set.values([command.name, *arguments])[1:]
        if rest:
            raise InputError(
                f"Unexpected argument {rest[0]!r}. Flags are written --name=value; "
                f"{command.name} --help lists them."
            )
        flag_set.check_required()
        with _terminable():
            if command.needs_tensorflow:
                if sys.flags.optimize > 1:
                    raise InputError(
                        "Python runs without docstrings (-OO or PYTHONOPTIMIZE=2), and "
                        "tensorflow_text cannot. Set PYTHONOPTIMIZE=1 or unset it."
                    )
                _import_tensorflow()
            command.run(flag_set)
    except flags.Error as error:
        problem = str(error).removeprefix("ERROR:: ")
        return _fail(command, f"{problem}\n{command.name} --help lists all flags.")
    except EtdError as error:
        theirs = isinstance(error, InputError | DivergenceError)
        told = flag_set.translate(str(error))
        return _fail(command, told, EXIT_INPUT_ERROR if theirs else EXIT_FAILURE)
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        sys.stderr.write(f"\n{command.name}: interrupted. {stop}".rstrip() + "\n")
        return 128 + int(signum)
    except Exception as error:
        if (ending := _system_error(error)) is None:
            raise
        return _fail(command, *ending)
    return 0


def _system_error(error: Exception) -> tuple[str, int] | None:
    """Message and exit status where the system refused something; None for a bug."""
    # By its text, as safetensors and TensorFlow have error types of their own for it.
    if any(os.strerror(number) in str(error) for number in _FULL):
        told = str(error).splitlines()[0]
        return f"{told}. Free some space and run the same command again.", EXIT_FAILURE
    if isinstance(error, OSError) and error.filename and error.errno in _UNUSABLE:
        path = str(error.filename)
        shown = path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."
        return f"{error.strerror}: {shown}. Pass a path that can be used.", EXIT_INPUT_ERROR
    return None


def _make_printable() -> None:
    """Lets any name be printed, wherever output goes: a word in it must not end a long run."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started the command
            stream = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _import_tensorflow() -> None:
    """Imports TensorFlow without its start-up lines, which no Python setting silences.

    Nor does what the user has set for other programs that use Keras change a command: there is
    no `keras.json` in the null device.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _fail(command: Command, message: str, status: int = EXIT_INPUT_ERROR) -> int:
    sys.stderr.write(f"{command.name}: {message}\n")
    return status


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turns signals into `Interrupted` while a command runs; SIGINT is Python's own."""

    def stop(signum: int, _: FrameType | None) -> None:
        raise Interrupted(signum)

    with handling([one for one in stop_signals() if one != signal.SIGINT], stop):
        yield


def help_text(command: Command, flag_set: FlagSet) -> str:
    """Formats the help page: summary, then the flags by group with defaults."""
    lines = [f"{command.name}: {command.summary}", ""]
    for title, names in flag_set.groups.items():
        lines += [f"{title}:", *(line for name in names for line in _flag_help(flag_set, name)), ""]
    lines.append("--flagfile=FILE reads flags from a file; flags after it override it.")
    return "\n".join(lines) + "\n"


def _flag_help(flag_set: FlagSet, name: str) -> Iterator[str]:
    flag = flag_set.values[name]
    default = "" if flag.default in (None, [], "") else f" [default: {_default(flag)}]"
    told = flag.help.removeprefix(f"<{_choices(flag)}>: ")  # absl repeats the choices
    text = flag_set.translate(told)
    yield f"  --[no]{name}" if flag.boolean else f"  --{name}={_placeholder(flag)}"
    yield from textwrap.wrap(
        f"{text}{default}", _HELP_WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
    )


def _choices(flag: Any) -> str:
    return "|".join(getattr(flag.parser, "enum_values", []))


def _placeholder(flag: Any) -> str:
    if _choices(flag):
        return _choices(flag)
    kinds = {"int": "N", "float": "X", "string": "TEXT"}
    return kinds.get(flag.flag_type(), "A,B,...")


def _default(flag: Any) -> str:
    return ",".join(flag.default) if isinstance(flag.default, list) else str(flag.default)
