"""Tests of reading shared flags and of writing them down."""

import sys

import pytest

from etd_tf.cli.flags import FlagSet, model_source
from etd_tf.errors import InputError
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import StudentSize
from tests.helpers import REPOSITORY
from tests.sources import PACKAGE, imported


def _flags(*argv):
    flag_set = FlagSet(DistillOptions)
    flag_set.values(["etd_distill", *argv])
    return flag_set


def test_settings_are_read_back_as_they_were(tmp_path):
    flag_set = _flags(
        "--teacher=a b",
        '--corpus="one,two.txt",three four.txt',
        "--export=",
        "--compensate",
        "--learning_rate=1e-05",
        "--layer_selection=1,3",
        "--overwrite",
    )
    values, written = flag_set.values, flag_set.texts()
    assert written["corpus"] == '"one,two.txt",three four.txt'
    assert written["compensate"] == "true"
    # What is done with a directory is no part of a run; unset flags have no text.
    assert not {"overwrite", "dropout", "flagfile"} & set(written)
    path = tmp_path / "flags.txt"
    path.write_text("# x\n" + "".join(f"--{name}={value}\n" for name, value in written.items()))
    again = _flags(f"--flagfile={path}").values
    assert _flags(f"--flagfile={path}").texts() == written
    for name in ("corpus", "export", "learning_rate", "compensate", "teacher", "dropout"):
        assert again[name].value == values[name].value, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [("uniform", "uniform"), ("3", (3,)), ("1, 3", (1, 3)), ("1,x", "1,x"), ("", "")],
)
def test_layer_selections(text, expected):
    flag_set = _flags(f"--layer_selection={text}")
    assert flag_set.read(ExtractionOptions).layer_selection == expected


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
    argv = (flag.replace("SCORES", str(scores)) for flag in flags)
    _flags(*argv).read(ExtractionOptions)
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
    size = _flags("--student_hidden=9").read(StudentSize)
    assert size == StudentSize(hidden_size=9)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("steps=0: expected more.", "--steps=0: expected more."),
        ("Pass overwrite=True to replace it.", "Pass --overwrite to replace it."),
        ("packed with compensate=False.", "packed with --nocompensate."),
        ("Choose another output_dir.", "Choose another --output_dir."),
        ("exports=gguf is unknown", "--export=gguf is unknown"),
        ("learning_rate was '0.1' and is now '0.2'", "--learning_rate was '0.1' and is now '0.2'"),
        (
            "layers=2 of the loss, student.num_layers=3",
            "--tinybert_layers=2 of the loss, --student_layers=3",
        ),
        # other names, English words, paths, quotations and what is translated already
        ("hidden_size=10 is not a multiple of num_heads=3", None),
        ("All steps of the loss, in the corpus.", None),
        ("/data/steps=5/output_dir/x holds files in run.output_dir", None),
        ("'output_dir' and \"steps=3\"", None),
        ("min_steps=4, steps_per=2, --steps=3 and batch_size_of", None),
    ],
)
def test_messages_speak_of_flags(message, told):
    assert _flags().translate(message) == (told or message)


def test_errors_name_the_flag_of_their_own_field():
    flag_set = _flags()
    flag_set.values["student_layers"].value = 0
    with pytest.raises(InputError, match=r"^--student_layers=0: "):
        flag_set.read(StudentSize)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
