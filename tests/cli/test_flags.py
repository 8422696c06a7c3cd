"""Tests of reading shared flags and of writing them down."""

import sys

import pytest

from etd_tf.cli.app import FlagSet
from etd_tf.cli.distill import define_flags
from etd_tf.cli.flags import (
    extraction_options,
    model_source,
    settings,
    split_layer_selection,
    student_size,
)
from tests.helpers import REPOSITORY
from tests.sources import PACKAGE, imported


def _parse(*argv):
    flag_set = FlagSet()
    define_flags(flag_set)
    flag_set.values(["etd_distill", *argv])
    return flag_set.values


def test_settings_are_read_back_as_they_were(tmp_path):
    values = _parse(
        "--teacher=a b",
        '--corpus="one,two.txt",three four.txt',
        "--export=",
        "--compensate",
        "--learning_rate=1e-05",
        "--layer_selection=1,3",
        "--overwrite",
        "--dry_run",
    )
    written = settings(values)
    assert written["corpus"] == '"one,two.txt",three four.txt'
    assert written["compensate"] == "true"
    # What is done with a directory is no part of a run; unset flags have no text.
    assert not {"overwrite", "dry_run", "dropout", "flagfile"} & set(written)
    path = tmp_path / "flags.txt"
    path.write_text("# x\n" + "".join(f"--{name}={value}\n" for name, value in written.items()))
    again = _parse(f"--flagfile={path}")
    assert settings(again) == written
    for name in ("corpus", "export", "learning_rate", "compensate", "teacher", "dropout"):
        assert again[name].value == values[name].value, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [("uniform", "uniform"), ("3", (3,)), ("1, 3", (1, 3)), ("1,x", "1,x"), ("", "")],
)
def test_layer_selections(text, expected):
    assert split_layer_selection(_parse(f"--layer_selection={text}")) == expected


def test_a_run_directory_stands_for_its_student(tmp_path):
    assert model_source(str(tmp_path)) == str(tmp_path)
    (tmp_path / "student").mkdir()
    assert model_source(str(tmp_path)) == str(tmp_path / "student")
    assert model_source("package:name/model") == "package:name/model"


@pytest.mark.parametrize("file", ["config.json", "bert_config.json", "model.ckpt.index"])
def test_a_checkpoint_stands_for_itself(tmp_path, file):
    (tmp_path / "student").mkdir()
    (tmp_path / file).touch()
    assert model_source(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--extraction=none", "--head_mode=heads"], "cuts nothing out"),
        (
            ["--extraction=rand", "--importance_metric=magnitude"],
            "nothing is scored",
        ),
        (
            ["--importance_metric=activation", "--importance_loss=mlm"],
            "does not read it",
        ),
        (["--scores=SCORES", "--importance_examples=8"], "scored already"),
        (["--extraction=rand", "--compensate", "--importance_examples=64"], None),
        (["--importance_examples=64", "--importance_loss=reconstruction"], None),
    ],
)
def test_flags_without_effect_are_named(flags, reason, tmp_path, caplog):
    scores = tmp_path / "scores.npz"
    scores.touch()
    extraction_options(_parse(*(flag.replace("SCORES", str(scores)) for flag in flags)))
    if reason is None:
        assert not caplog.messages
    else:
        (message,) = caplog.messages
        assert reason in message
        assert flags[-1].split("=")[0] in message


def test_commands_import_only_what_they_share():
    """What two commands need lives in the modules for that, not in one of the two."""
    folder = PACKAGE / "cli"
    commands = {f"etd_tf.cli.{path.name[4:]}" for path in (REPOSITORY / "bin").glob("etd_*")}
    for path in folder.glob("*.py"):
        assert not commands & {module for _, module in imported(path)}, path.name


def test_unset_sizes_are_the_teachers():
    size = student_size(_parse("--student_hidden=9"))
    assert (size.layers, size.hidden, size.heads, size.intermediate) == (None, 9, None, None)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
