"""Flags of `etd_evaluate`."""

import subprocess
import sys

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.evaluate import COMMAND, read_options
from etd_tf.cli.flags import FlagSet
from etd_tf.errors import InputError
from etd_tf.tasks import TASKS
from etd_tf.tasks.glue import GLUE_TASKS
from tests.helpers import REPOSITORY


def parse(*arguments):
    flag_set = FlagSet(*COMMAND.settings)
    flag_set.values(["etd_evaluate", *arguments])
    return read_options(flag_set)


def test_every_task_with_labels_is_offered():
    offered = {name.removeprefix("glue/") for name in TASKS if name.startswith("glue/")}
    assert offered == {name for name, task in GLUE_TASKS.items() if task.evaluation_splits}


def test_flags_become_options(tmp_path):
    options = parse(
        "--model=m",
        "--task=glue/rte",
        "--glue_dir=data",
        "--learning_rates=1e-4,3e-4",
        "--seeds=1,2",
        "--epochs=5",
        "--precision=mixed_bfloat16",
        f"--output_dir={tmp_path}",
    )
    assert options.models == ("m",)
    assert options.find_task().source == "data"
    assert options.finetune.learning_rates == (1e-4, 3e-4)
    assert options.finetune.seeds == (1, 2)
    assert (options.finetune.epochs, options.finetune.precision) == (5, "mixed_bfloat16")
    assert options.output_dir == tmp_path
    assert parse("--model=m", "--task=glue/rte", "--glue_dir=d", "--nofinetune").finetune is None


def test_teacher_comes_first_and_run_directories_name_their_student(tmp_path):
    (tmp_path / "student").mkdir()
    options = parse(f"--model={tmp_path},other", "--teacher=t", "--benchmark")
    assert options.models == ("t", str(tmp_path / "student"), "other")


def test_the_teacher_of_a_task_with_training_is_fine_tuned_already():
    options = parse("--model=m", "--task=glue/sst2", "--glue_dir=d", "--teacher=t")
    assert options.models == ("m",)
    assert options.finetuned_teacher == "t"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model is missing"),
        (["--model=m"], "nothing to do"),
        (["--model=m", "--task=glue/imdb"], "choose from sts-probe, fidelity"),
        (["--model=m", "--task=glue/sst2"], r"pass glue_dir=DIR"),
        (
            ["--model=m", "--task=glue/sst2", "--squad_dir=d"],
            r"--squad_dir has no effect here: it is for --task=squad-retrieval, squad/v1.1",
        ),
        (
            ["--model=m", "--task=glue/sst2", "--glue_dir=d", "--saved_model"],
            "saved_model=True has no effect without output_dir",
        ),
        (
            ["--model=m", "--benchmark", "--epochs=2"],
            "--epochs has no effect here: it is for fine-tuning",
        ),
        (
            ["--model=m", "--task=glue/sst2", "--glue_dir=d", "--nofinetune", "--seeds=1"],
            "--seeds has no effect here: it goes with --finetune",
        ),
        (
            ["--model=m", "--task=squad/v1.1", "--squad_dir=d", "--null_threshold=1"],
            "--null_threshold has no effect here: it is for --task=squad/v2.0",
        ),
        (
            ["--model=m", "--task=glue/sst2", "--glue_dir=d", "--learning_rates=x"],
            "not a comma-separated list of numbers",
        ),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        parse(*arguments)


def test_input_errors_exit_with_2(capsys):
    assert run_command(COMMAND, ["--model=m", "--task=nothing"]) == 2
    assert "--task=nothing is unknown" in capsys.readouterr().err
    assert run_command(COMMAND, ["--model=/nowhere", "--benchmark"]) == 2


def test_help_starts_no_tensorflow():
    program = (
        "import sys, etd_tf.cli.app as a, etd_tf.cli.evaluate as e; "
        "a.run_command(e.COMMAND, ['--help']); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "--learning_rates" in result.stdout


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
