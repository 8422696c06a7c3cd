"""Tests of preparation on Apache Beam; those that run a pipeline need it installed."""

import gzip
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.prepare import COMMAND
from etd_tf.errors import InputError
from etd_tf.text import beam
from tests.helpers import REPOSITORY


def needs_beam():
    pytest.importorskip("apache_beam", reason="needs Apache Beam: make beam-test")


def flags_of(tmp_path, *more):
    tokenizer, out = tmp_path / "tokenizer", tmp_path / "out"
    return ["--corpus=stdlib:pydoc", f"--tokenizer={tokenizer}", f"--output_dir={out}", *more]


def test_a_missing_beam_is_told_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_command(COMMAND, flags_of(tmp_path, "--runner=flink")) == 2
    assert "pip install apache-beam" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runner_options=--parallelism=4"], "give --runner, too"),
        (["--runner=flink", "--workers=3"], "option of its own"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(tmp_path, tokenizer_dir, capsys, flags, message):
    assert run_command(COMMAND, flags_of(tmp_path, *flags)) == 2
    assert message in capsys.readouterr().err


def test_values_with_commas_stay_whole():
    assert beam._joined(["--experiments=a", "b", "--region=c"]) == [
        "--experiments=a,b",
        "--region=c",
    ]
    with pytest.raises(InputError, match="two dashes"):
        beam._joined(["parallelism=3"])


def test_options_reach_beam():
    needs_beam()
    from apache_beam.options import pipeline_options

    made = beam._pipeline_options(
        "FlinkRunner", ["--flink_master=host:8081", "--parallelism=64", "--experiments=a,b"]
    )
    flink = made.view_as(pipeline_options.FlinkRunnerOptions)
    assert (flink.flink_master, flink.parallelism) == ("host:8081", 64)
    assert made.view_as(pipeline_options.StandardOptions).runner == "FlinkRunner"
    assert made.view_as(pipeline_options.DebugOptions).experiments == ["a", "b"]


@pytest.mark.parametrize(
    ("runner", "arguments", "message"),
    [
        ("nonsense", [], "Unexpected pipeline runner: nonsense"),
        ("direct", ["--direct_running_mode=magic"], "does not take .*magic"),
        ("DirectRunner", ["--direct_wrokers=2"], "no option --direct_wrokers"),
        ("dataflow", [], "refuses runner=dataflow"),
    ],
)
def test_what_beam_refuses_is_an_input_error(runner, arguments, message):
    needs_beam()
    with pytest.raises(InputError, match=message):
        beam.beam_engine(runner, arguments)


def test_what_fails_in_a_worker_comes_first(tmp_path, monkeypatch):
    needs_beam()
    (tmp_path / "full.py").write_text(
        "import errno, os\n"
        "class Full:\n"
        "    def start(self):\n"
        "        return self.fail\n"
        "    def fail(self, task):\n"
        "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    full = importlib.import_module("full")
    with pytest.raises(RuntimeError, match=r"\AA worker failed: .*No space left on device"):
        beam.beam_engine("direct", workers=2)(full.Full(), [(tmp_path, 1), (tmp_path, 2)])


def command(tmp_path, output, *more):
    return [
        sys.executable,
        str(REPOSITORY / "bin" / "etd_prepare"),
        f"--tokenizer={tmp_path / 'tokenizer'}",
        f"--output_dir={output}",
        "--sequence_length=16",
        *more,
    ]


def prepare(tmp_path, output, *more):
    done = subprocess.run(
        command(tmp_path, output, *more),
        check=False,
        cwd=tmp_path,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in (tmp_path / output).iterdir()}


@pytest.fixture
def corpus(tmp_path):
    """Files of every kind, and the flag that names them."""
    texts = [f"the cat {i}\nsat on mat {i % 3}" for i in range(50)]
    (tmp_path / "a.txt").write_text("\n\n".join(texts), "utf-8")
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n\n".join(texts[::-1]))
    lines = [json.dumps({"text": text.replace("cat", "dog")}) for text in texts]
    (tmp_path / "c.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "v.txt").write_text("the mat\n\na dog", "utf-8")
    return "--corpus=a.txt,b.txt.gz,c.jsonl,stdlib:pydoc"


@pytest.mark.parametrize(
    ("runner", "more"),
    [
        (["--runner=direct", "--workers=2"], ["--held_out_fraction=0.1", "--seed=3"]),
        (
            # A job server and workers of its own, as with Flink and Spark.
            [
                "--runner=portable",
                "--runner_options=--job_endpoint=embed,--environment_type=LOOPBACK",
            ],
            ["--nopacking", "--validation_corpus=v.txt"],
        ),
    ],
)
def test_workers_of_beam_write_the_same_bytes(tmp_path, tokenizer_dir, corpus, runner, more):
    needs_beam()
    flags = [corpus, "--num_shards=3", *more]
    made = prepare(tmp_path, "beam", *flags, *runner)
    assert made == prepare(tmp_path, "local", *flags)
    assert len(made) == 3 * 2 + 2 + 1  # files and their indices, and the manifest


def test_a_killed_run_leaves_no_process_and_either_path_goes_on(tmp_path, tokenizer_dir):
    needs_beam()
    flags = ["--corpus=stdlib:pydoc", "--num_shards=30"]
    killed = subprocess.Popen(
        command(tmp_path, "out", *flags, "--runner=direct", "--workers=2"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(list((tmp_path / "out").glob("*.summary.json"))) > 5)
        killed.kill()
        killed.wait()
        wait_for(lambda: not group_lives(killed.pid))
    finally:
        if group_lives(killed.pid):
            os.killpg(killed.pid, signal.SIGKILL)
    assert not (tmp_path / "out" / "manifest.json").exists()
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    finished = {path.name for path in (tmp_path / "out").glob("*.summary.json")}
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tfrecord")}
    whole = prepare(tmp_path, "local", *flags)
    assert prepare(tmp_path, "out", *flags) == whole
    assert prepare(tmp_path, "again", *flags, "--runner=direct") == whole
    kept = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp]
    assert len(kept) >= len(finished) > 5


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def group_lives(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
