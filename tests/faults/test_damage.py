"""Files of a run that were cut short or changed on disk are found and named."""

import json
import re
import shutil
import sys
import time

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND
from tests.faults.processes import make_folder, results_of
from tests.jobs.tiny_job import job_flags


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Changes a bit; of records one in each, since a short run reads only some."""
    content = bytearray(path.read_bytes())
    distance = 60 if path.suffix == ".tfrecord" else len(content)
    for place in range(len(content) // 2 % distance, len(content), distance):
        content[place] ^= 0x10
    path.write_bytes(content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with inputs, and a finished run in `out`."""
    folder = make_folder(tmp_path_factory.mktemp("damage"))
    assert run_command(COMMAND, job_flags(folder, folder / "out", keep_checkpoints=3)) == 0
    return folder


@pytest.fixture
def unfinished(finished):
    """The same as if the run had been killed before its report; put in order afterwards."""
    backup = finished.with_name("backup")
    shutil.copytree(finished, backup)
    (finished / "out" / "report.json").unlink()
    yield finished
    shutil.rmtree(finished)
    backup.rename(finished)


def rerun(folder):
    return run_command(COMMAND, job_flags(folder, folder / "out", keep_checkpoints=3))


# Pattern of the file, and what the message says: the file, or what of it has changed.
FILES = {
    "records": ("cache/records/*/train-*.tfrecord", r"delete .*cache/records/\w+, and the next"),
    "teacher": ("teacher/model.safetensors", r"teacher/model\.safetensors|another teacher"),
    "plan": ("out/plan.json", r"out/plan\.json"),
    "scores": ("out/scores.npz", r"out/scores\.npz"),
}


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(unfinished, capfd, name, damage):
    pattern, message = FILES[name]
    (path,) = unfinished.glob(pattern)
    damage(path)
    shutil.rmtree(unfinished / "out" / "checkpoints")  # so that everything is read again
    status = rerun(unfinished)
    said = capfd.readouterr().err
    if name == "records" and damage is cut:  # of the cache: found when opened, and made again
        assert status == 0, said
        return
    assert status == 2, said
    assert re.search(message, said), said
    assert "Traceback" not in said


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(unfinished, caplog, damage):
    expected = results_of(unfinished / "out")
    shutil.rmtree(unfinished / "out" / "student")
    newest = max((unfinished / "out" / "checkpoints").iterdir())
    damage(newest / "state.safetensors")
    assert rerun(unfinished) == 0
    assert f"{newest.name} is damaged" in caplog.text
    assert results_of(unfinished / "out") == expected


def test_a_plan_with_other_numbers_does_not_continue_the_run(unfinished, capfd):
    path = unfinished / "out" / "plan.json"
    plan = json.loads(path.read_text())
    layer = plan["layers"][0]["ffn"]
    spare = sorted(set(range(plan["teacher"]["intermediate_size"])) - set(layer))
    plan["layers"][0]["ffn"] = sorted([*layer[1:], spare[0]])
    path.write_text(json.dumps(plan))
    assert rerun(unfinished) == 2
    assert "student was" in capfd.readouterr().err


def test_clocks_that_go_backwards_change_nothing(finished, tmp_path, monkeypatch):
    readings = iter(range(10**9, 0, -3600))  # an hour back at each look
    monkeypatch.setattr(time, "time", lambda: float(next(readings)))
    monkeypatch.setattr(time, "time_ns", lambda: next(readings) * 10**9)
    out = tmp_path / "out"
    assert run_command(COMMAND, job_flags(finished, out, keep_checkpoints=3)) == 0
    assert results_of(out) == results_of(finished / "out")
    report = json.loads((out / "report.json").read_text())
    assert report["cost"]["training_seconds"] >= 0.0


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
