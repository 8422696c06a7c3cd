"""Tests of `etd_extract`."""

import sys

import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.cli.app import run_command
from etd_tf.cli.extract import COMMAND
from tests.helpers import tiny_checkpoint


def test_flags_reach_the_student(tmp_path, capsys):
    save_checkpoint(tiny_checkpoint(), tmp_path / "teacher")
    status = run_command(
        COMMAND,
        [
            f"--teacher={tmp_path}/teacher",
            f"--output_dir={tmp_path}/out",
            "--student_layers=2",
            "--student_hidden=10",
            "--student_heads=2",
            "--student_intermediate=7",
            "--head_mode=heads",
            "--layer_selection=1,3",
            "--extraction=rand",
            "--seed=5",
        ],
    )
    assert status == 0
    assert "layers     1, 3 of 3" in capsys.readouterr().out
    config = load_checkpoint(tmp_path / "out" / "student").config
    sizes = (config.num_layers, config.hidden_size, config.num_heads, config.intermediate_size)
    assert sizes == (2, 10, 2, 7)
    assert "--seed=5\n" in (tmp_path / "out" / "flags.txt").read_text()


def test_input_errors_exit_with_two_and_one_line(tmp_path, capsys):
    assert run_command(COMMAND, [f"--teacher={tmp_path}", f"--output_dir={tmp_path}/out"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("etd_extract: Scoring units needs text. Give it as --corpus=")
    assert run_command(COMMAND, ["--output_dir=out"]) == 2
    assert "teacher" in capsys.readouterr().err


def test_help_lists_the_flags(capsys):
    assert run_command(COMMAND, ["--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("--teacher", "--student_hidden", "--importance_metric", "--scores"):
        assert flag in shown


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
