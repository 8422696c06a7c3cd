"""`etd_embed`: lines in, a NumPy file out, and refusals before anything slow."""

import sys

import numpy as np
import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.embed import COMMAND
from tests.helpers import tiny_checkpoint

LINES = "the cat sat\n\ndogs ran\u2028on\n"


@pytest.fixture(scope="module")
def checkpoint():
    from etd_tf.modeling.pooling import Pooling

    pooling = Pooling(("cls",), normalize=True, prompts={"query": "on: "})
    return tiny_checkpoint(num_layers=1).replace(pooling=pooling)


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    from etd_tf.checkpoints import save_checkpoint

    directory = tmp_path_factory.mktemp("run") / "student"
    save_checkpoint(checkpoint, directory)
    return directory.parent


@pytest.fixture
def arguments(model, tmp_path):
    (tmp_path / "texts.txt").write_text(LINES, encoding="utf-8")
    paths = {"texts": tmp_path / "texts.txt", "output": tmp_path / "vectors.npy"}
    return [f"--model={model}", *(f"--{name}={path}" for name, path in paths.items())]


def test_one_row_a_line(checkpoint, arguments, tmp_path, capsys):
    assert run_command(COMMAND, arguments) == 0
    vectors = np.load(tmp_path / "vectors.npy")
    wanted = checkpoint.embed(["the cat sat", "", "dogs ran\u2028on"])
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert "3 vectors of 15 dims" in capsys.readouterr().out
    assert run_command(COMMAND, arguments) == 2
    assert "exists already. Choose another output or pass --overwrite." in capsys.readouterr().err
    assert run_command(COMMAND, [*arguments, "--overwrite"]) == 0


def test_flags_change_pooling_length_and_prompt(checkpoint, arguments, tmp_path):
    from etd_tf.modeling.pooling import Pooling

    flags = ["--pooling=mean,max", "--nonormalize", "--prompt=query", "--batch_size=2"]
    assert run_command(COMMAND, [*arguments, *flags]) == 0
    other = checkpoint.replace(pooling=Pooling(("mean", "max")))
    wanted = other.embed(["the cat sat", "", "dogs ran\u2028on"], prompt="on: ")
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), wanted, atol=1e-5)


def test_windows_lines_and_an_empty_file(arguments, tmp_path):
    (tmp_path / "texts.txt").write_bytes("\ufeffthe cat\r\na dog".encode())
    assert run_command(COMMAND, arguments) == 0
    assert np.load(tmp_path / "vectors.npy").shape == (2, 15)
    (tmp_path / "texts.txt").write_bytes(b"")
    assert run_command(COMMAND, [*arguments, "--overwrite"]) == 0
    assert np.load(tmp_path / "vectors.npy").shape == (0, 15)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--output=vectors.txt", "--output=vectors.txt does not end in .npy"),
        ("--output=nowhere/v.npy", "The directory nowhere of --output=nowhere/v.npy does not"),
        ("--texts=nothing.txt", "nothing.txt does not exist, or is no file"),
        ("--pooling=median", "--pooling=median is unknown; choose from cls, max, mean"),
        ("--pooling=cls,cls", "--pooling=cls,cls: expected none twice; choose from"),
        ("--prompt=passage", "no --prompt='passage'; the model has query"),
        ("--batch_size=0", "batch_size"),
        ("--model=missing", "missing"),
    ],
)
def test_what_does_not_work_is_refused(arguments, flag, message, capsys):
    assert run_command(COMMAND, [*arguments, flag]) != 0
    assert message in capsys.readouterr().err


def test_text_of_another_encoding_is_refused_with_its_line(arguments, tmp_path, capsys):
    (tmp_path / "texts.txt").write_bytes(b"one\ncaf\xe9\n")
    assert run_command(COMMAND, arguments) == 2
    assert "texts.txt, line 2, byte 7: not UTF-8" in capsys.readouterr().err


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
