"""`etd_export`: formats side by side, and refusals before anything slow."""

import shutil
import subprocess
import sys

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.export import COMMAND
from etd_tf.export import FORMATS
from tests.helpers import REPOSITORY, tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from etd_tf.checkpoints import save_checkpoint

    directory = tmp_path_factory.mktemp("run") / "student"
    save_checkpoint(tiny_checkpoint(num_layers=1), directory)
    return directory


def test_several_formats_from_a_run_directory(model, tmp_path, capsys):
    arguments = [
        f"--model={model.parent}",
        "--format=huggingface,litert",
        "--quantize",
        f"--output_dir={tmp_path / 'out'}",
    ]
    assert run_command(COMMAND, arguments) == 0
    shown = capsys.readouterr().out
    assert str(tmp_path / "out" / "huggingface") in shown
    assert "int8" in shown
    assert (tmp_path / "out" / "huggingface" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "litert" / "model.tflite").is_file()
    assert run_command(COMMAND, arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run_command(COMMAND, [*arguments, "--overwrite"]) == 0


def test_overwriting_replaces_exports_and_nothing_else(model, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "huggingface")
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "thesis.txt").write_text("precious")
    for form, fix in (
        ("huggingface", "--overwrite would delete --model="),
        ("google", "holds something else than an earlier google export"),
    ):
        arguments = [f"--model={tmp_path / 'huggingface'}", f"--format={form}", "--overwrite"]
        assert run_command(COMMAND, [*arguments, f"--output_dir={tmp_path}"]) == 2
        assert fix in capsys.readouterr().err
    assert (tmp_path / "google" / "thesis.txt").read_text() == "precious"
    assert (tmp_path / "huggingface" / "model.safetensors").is_file()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_known_again(model, tmp_path, capsys, form):
    arguments = [f"--model={model}", f"--format={form}", f"--output_dir={tmp_path}"]
    assert run_command(COMMAND, arguments) == 0
    assert run_command(COMMAND, [*arguments, "--overwrite"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["--format=gguf"], "choose from saved_model"),
        (["--format="], "choose from saved_model"),
        (["--quantize"], "it is for --format=litert, onnx"),
        (["--format=litert", "--max_length=9"], "it is for --format=saved_model"),
        (["--model=/nowhere/at/all"], "/nowhere/at/all does not exist"),
    ],
)
def test_refusals(model, tmp_path, capsys, arguments, fix):
    defaults = [f"--model={model}", f"--output_dir={tmp_path / 'out'}"]
    assert run_command(COMMAND, [*defaults, *arguments]) == 2
    assert fix in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_starts_without_tensorflow():
    code = (
        "import sys; sys.argv = ['etd_export', '--help']\n"
        "from etd_tf.cli.app import run_command\n"
        "from etd_tf.cli.export import COMMAND\n"
        "status = run_command(COMMAND)\n"
        "sys.exit(status or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    for form in FORMATS:
        assert form in done.stdout


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
