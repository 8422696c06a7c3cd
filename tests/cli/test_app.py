"""Tests of the frame of commands: parsing, help, errors, signals and exit status."""

import dataclasses
import errno
import io
import os
import signal
import subprocess
import sys

import pytest

from etd_tf.cli.app import Command, help_text, run_command
from etd_tf.cli.flags import FlagSet
from etd_tf.errors import DivergenceError, InputError, Interrupted, WorkerLostError
from etd_tf.settings import MISSING, Settings, setting
from tests.helpers import REPOSITORY


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes(Settings):
    title = "Sizes"

    layers: int = setting(3, "Number of layers.", least=1)
    rate: float | None = setting(None, "A share.", least=0.0)
    teacher: str = setting(MISSING, "The model to shrink.", group="Names", required=True)
    files: tuple[str, ...] = setting(("a", "b"), "Files.", group="Names")
    loss: str = setting("minilm", "The loss.", choices=("minilm", "mlm"), group="Names")
    dry: bool = setting(False, "Only look.", group="Names")


def _run(argv, body=lambda flag_set: None, **options):
    command = Command("try_it", "tries.", (Sizes,), body, **{"needs_tensorflow": False, **options})
    return run_command(command, argv)


def test_flags_are_parsed_and_handed_over(tmp_path):
    (tmp_path / "x.flags").write_text("# why\n--layers=5\n--files=c,d e\n")
    seen = []
    argv = ["--teacher=t", f"--flagfile={tmp_path}/x.flags", "--rate=0.5", "--dry", "--layers=6"]
    assert _run(argv, seen.append) == 0
    values = seen[0].values
    assert (values.layers, values.rate, values.teacher) == (6, 0.5, "t")
    assert (values.files, values.loss, values.dry) == (["c", "d e"], "minilm", True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--teachr=t"], "Unknown command line flag 'teachr'. Did you mean: teacher"),
        (["--layers=0", "--teacher=t"], "--layers=0: 0 is not a positive integer"),
        (["--loss=kd", "--teacher=t"], "--loss=kd: value should be one of <minilm|mlm>"),
        (["--teacher=t", "more"], "Unexpected argument 'more'"),
        ([], "--teacher is missing: The model to shrink."),
        (["--flagfile=/none.flags"], "try_it: Unable to open flagfile"),
    ],
)
def test_usage_errors_exit_with_two(capsys, argv, message):
    assert _run(argv, lambda values: pytest.fail("ran")) == 2
    assert message in capsys.readouterr().err


def _raising(error):
    def body(_):
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("Bad. Do this."), 2, "try_it: Bad. Do this.\n"),
        (DivergenceError("NaN."), 2, "try_it: NaN.\n"),
        (Interrupted(signal.SIGTERM, "Saved."), 143, "try_it: interrupted. Saved.\n"),
        (KeyboardInterrupt(), 130, "try_it: interrupted.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "Free some space and run"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "denied: /x. Pass a path"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "too long: aaa"),
        (RuntimeError("I/O error: No space left on device (os error 28)\nat ..."), 1, "Free some"),
        (WorkerLostError("Gone."), 1, "try_it: Gone.\n"),
    ],
)
def test_ends_have_a_status_and_a_message(capsys, error, status, message):
    assert _run(["--teacher=t"], _raising(error)) == status
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        _run(["--teacher=t"], lambda values: 1 / 0)
    with pytest.raises(PermissionError):
        _run(["--teacher=t"], _raising(PermissionError(errno.EACCES, "no")))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_ends_the_work_and_the_handler_is_restored(capsys, signum):
    before = signal.getsignal(signum)
    assert _run(["--teacher=t"], lambda values: os.kill(os.getpid(), signum)) == 128 + signum
    assert signal.getsignal(signum) is before
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [True, False])
def test_names_that_the_terminal_cannot_show_end_nothing(monkeypatch, closed):
    written = io.BytesIO()
    terminal = None if closed else io.TextIOWrapper(written, "ascii", write_through=True)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, terminal)
    assert _run(["--teacher=t"], lambda values: sys.stdout.write("mod\u00e8le \udcff\n")) == 0
    assert written.getvalue() == (b"" if closed else b"mod\\xe8le \\udcff\n")


def test_python_without_docstrings_is_told_before_any_work(tmp_path):
    command = [sys.executable, str(REPOSITORY / "bin" / "etd_export"), "--format=saved_model"]
    done = subprocess.run(
        [*command, f"--model={tmp_path}", f"--output_dir={tmp_path / 'out'}"],
        env={**os.environ, "PYTHONOPTIMIZE": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Set PYTHONOPTIMIZE=1 or unset it" in done.stderr


def test_help_shows_groups_choices_and_defaults(capsys):
    assert _run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("try_it: tries.")
    assert "Sizes:\n  --layers=N\n      Number of layers. [default: 3]\n" in shown
    assert "  --rate=X\n      A share.\n" in shown
    assert "  --files=A,B,...\n      Files. [default: a,b]\n" in shown
    assert "  --loss=minilm|mlm\n      The loss. [default: minilm]\n" in shown
    assert "  --[no]dry\n      Only look. [default: False]\n" in shown
    assert help_text(Command("try_it", "tries.", (Sizes,), print), FlagSet(Sizes)) == shown


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
