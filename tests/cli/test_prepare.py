"""Tests of `etd_prepare`."""

import shutil
import signal
import sys

import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.cli.app import run_command
from etd_tf.cli.prepare import COMMAND
from etd_tf.errors import Interrupted
from etd_tf.jobs.inputs import with_tokenizer
from etd_tf.text.record_directories import open_records
from tests.helpers import WORDPIECES, tiny_checkpoint
from tests.jobs.tiny_job import write_text


def test_flags_reach_the_records(tmp_path, tokenizer_dir, capsys):
    (tmp_path / "a.txt").write_text("the cat\nsat\n\non the mat\n\nthe dog ran", "utf-8")
    (tmp_path / "v.txt").write_text("a dog", "utf-8")
    status = run_command(
        COMMAND,
        [
            f"--corpus={tmp_path}/a.txt",
            f"--validation_corpus={tmp_path}/v.txt",
            f"--tokenizer={tokenizer_dir}",
            f"--output_dir={tmp_path}/out",
            "--sequence_length=6",
            "--num_shards=2",
            "--nopacking",
            "--seed=3",
        ],
    )
    assert status == 0
    shown = capsys.readouterr().out
    assert "3 documents" in shown
    assert f"etd_distill --corpus={tmp_path}/out" in shown
    records = open_records(tmp_path / "out", sequence_length=6)
    assert records.num_examples("train") == 4  # lines
    assert len(records.shards["train"]) == 2
    assert records.manifest["options"]["seed"] == 3
    assert records.manifest["documents"] == {"train": 3, "validation": 1}


@pytest.mark.parametrize("name", ["huggingface", "keras_hub", "google", "google/bert_model.ckpt"])
def test_the_tokenizer_is_found_in_every_format(tmp_path, name):
    checkpoint = tiny_checkpoint(num_layers=1)
    save_checkpoint(checkpoint, tmp_path / "model", format=name.partition("/")[0])
    shutil.rmtree(tmp_path / "model" / "etd_tf", ignore_errors=True)  # as others write it
    source = tmp_path / "model" / name.partition("/")[2]
    text = write_text(tmp_path / "text.txt")
    flags = [f"--corpus={text}", f"--tokenizer={source}", f"--output_dir={tmp_path}/out"]
    assert run_command(COMMAND, [*flags, "--sequence_length=16"]) == 0
    records = open_records(tmp_path / "out")
    assert records.tokenizer_fingerprint == load_checkpoint(source).tokenizer.fingerprint()
    assert with_tokenizer(checkpoint, str(source)).tokenizer.wordpieces == list(WORDPIECES)


def test_input_errors_exit_with_two(tmp_path, tokenizer_dir, capsys):
    out = f"--output_dir={tmp_path}/out"
    assert run_command(COMMAND, [f"--tokenizer={tokenizer_dir}", out]) == 2
    assert "No corpus given" in capsys.readouterr().err
    assert run_command(COMMAND, ["--corpus=stdlib:pydoc", "--tokenizer=/no/where", out]) == 2
    assert "/no/where does not exist" in capsys.readouterr().err
    assert run_command(COMMAND, ["--corpus=stdlib:pydoc", out]) == 2
    assert "tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize("idle", ["--held_out_fraction=0.1", "--seed=3"])
def test_nothing_is_held_out_beside_held_out_text(idle, tmp_path, tokenizer_dir, caplog):
    (tmp_path / "a.txt").write_text("the cat\n\non the mat", "utf-8")
    flags = [f"--{name}corpus={tmp_path}/a.txt" for name in ("", "validation_")]
    flags += [f"--tokenizer={tokenizer_dir}", f"--output_dir={tmp_path}/out", idle]
    assert run_command(COMMAND, flags) == 0
    told = f"{idle.partition('=')[0]} has no effect here: --validation_corpus=... is the held-out"
    assert told in caplog.text


def test_an_interruption_says_how_to_go_on(tmp_path, tokenizer_dir, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("etd_tf.text.prepare.prepare_records", interrupt)
    flags = [f"--tokenizer={tokenizer_dir}", f"--output_dir={tmp_path}/out"]
    assert run_command(COMMAND, ["--corpus=stdlib:pydoc", *flags]) == 128 + signal.SIGTERM
    assert "run the same command again to continue" in capsys.readouterr().err


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
