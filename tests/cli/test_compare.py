"""Tests of `etd_compare`."""

import json
import sys

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.compare import COMMAND
from etd_tf.cli.flags import FlagSet
from etd_tf.jobs.compare_types import CompareOptions
from tests.jobs.tiny_job import write_teacher, write_text


@pytest.fixture
def flags(tmp_path):
    """Flags of a comparison of a second or two."""
    write_teacher(tmp_path / "teacher")
    write_text(tmp_path / "text.txt", 80)
    values = {
        "teacher": tmp_path / "teacher",
        "corpus": tmp_path / "text.txt",
        "cache_dir": tmp_path / "cache",
        "output_dir": tmp_path / "out",
        "students": "1x9x3x7",
        "arms": "none,rand",
        "sequence_length": 16,
        "steps": 2,
        "batch_size": 4,
        "evaluate_at": 1,
        "snapshots": 100,
    }
    return [f"--{name}={value}" for name, value in values.items()]


def options(*arguments):
    flag_set = FlagSet(*COMMAND.settings)
    required = ("--teacher=t", "--output_dir=o", "--corpus=c", "--students=2x9x3x7")
    flag_set.values(["etd_compare", *required, *arguments])
    return flag_set.read(CompareOptions)


def test_flags_reach_the_report(flags, tmp_path, capsys):
    assert run_command(COMMAND, [*flags, "--dry_run"]) == 0
    assert "runs           2" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert run_command(COMMAND, flags) == 0
    shown = capsys.readouterr()
    assert "Report of 2 of 2 runs: " in shown.out
    assert "2 of 2 runs done, last rand of minilm 1x9x3x7, seed 0" in shown.err
    values = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert values["flags"]["arms"] == "none,rand"
    assert [point["step"] for point in values["cells"][1]["curve"]] == [0, 1, 2]
    assert run_command(COMMAND, [*flags, "--learning_rate=0.1"]) == 2
    assert "learning_rate was '0.0005' and is now '0.1'" in capsys.readouterr().err


def test_lists_become_settings():
    found = options(
        "--losses=minilm,tinybert",
        "--arms=none,impt",
        "--seeds=3,1",
        "--evaluate_at=9,4",
        "--snapshots=50,100",
        "--teacher_layer=2",
        "--tasks=glue/sst2,sts-probe",
        "--glue_dir=glue",
        "--finetune_at=50",
        "--finetune_learning_rates=1e-4,3e-4",
        "--finetune_seeds=7",
        "--finetune_epochs=2",
        "--held_out_sequences=5",
        "--layer_selection=1,3",
        "--importance_examples=9",
    )
    assert (found.seeds, found.evaluate_at, found.snapshots) == ((3, 1), (9, 4), (50, 100))
    assert found.evaluations()[:2] == (4, 9)
    assert found.loss_options == {"minilm": {"teacher_layer": 2}, "tinybert": {"layers": "last"}}
    assert found.downstream.finetune.learning_rates == (1e-4, 3e-4)
    assert (found.downstream.finetune.seeds, found.downstream.finetune.epochs) == ((7,), 2)
    assert found.downstream.finetune_at == (50,)
    assert found.held_out_sequences == 5
    assert found.base.extraction.layer_selection == (1, 3)
    assert found.base.extraction.importance_examples == 9
    assert len(list(found.runs())) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--students="], "--students= is empty"),
        (["--students=big"], "e.g. 6x384x12x1536"),
        (["--arms=none,best"], "--arms=best is unknown"),
        (["--seeds=a"], "--seeds=a is not a comma-separated list of whole numbers"),
        (["--losses=bert"], "--losses=bert is unknown"),
        (
            ["--relation_heads=3"],
            "--relation_heads has no effect here: it is for --losses=minilmv2",
        ),
        (["--glue_dir=g"], "--glue_dir has no effect here: it is for --tasks="),
        (["--finetune_epochs=2"], "has no effect here: it is for --tasks=glue/cola, glue/sst2"),
        (["--finetune_at=50"], "has no effect here: it is for --tasks=glue/cola, glue/sst2"),
        (["--squad_epochs=1"], "has no effect here: it is for --tasks=squad/v1.1, squad/v2.0"),
        (["--tasks=squad/v1.1"], "pass --squad_dir=DIR"),
        (["--tasks=sts-probe"], "pass --glue_dir=DIR"),
    ],
)
def test_bad_flags_exit_with_two_and_one_line(arguments, message, capsys):
    base = ["--teacher=t", "--output_dir=o", "--corpus=c", "--students=2x9x3x7"]
    assert run_command(COMMAND, [*base, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("etd_compare: ")
    assert message in error


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
