"""Tests of `metrics.jsonl` and the TensorBoard event files."""

import json
import math
import sys

import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.training.metrics_log import MetricsLog, read_metrics


def _write(path, steps, *, tensorboard=None, resume_step=0):
    log = MetricsLog(path, tensorboard, resume_step=resume_step)
    for step in steps:
        log.write(step, "train", {"loss": step / 4})
    log.close()
    return log


def _steps(path):
    return [line["step"] for line in read_metrics(path)]


def test_lines_are_json_objects(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    log = MetricsLog(path)
    log.write(3, "validation", {"loss": 0.25, "norm": math.inf, "term": math.nan})
    log.close()
    expected = {"step": 3, "split": "validation", "loss": 0.25, "norm": None, "term": None}

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == expected
    assert list(read_metrics(path)) == [expected]
    assert log.latest == {"validation": expected}


def test_resuming_removes_what_will_be_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, [1, 2, 3, 4])
    log = _write(path, [3, 4, 5], resume_step=2)
    assert _steps(path) == [1, 2, 3, 4, 5]
    assert log.latest["train"]["step"] == 5


def test_starting_anew_removes_everything(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, [0, 1])
    _write(path, [0])
    assert _steps(path) == [0]


def test_a_cut_last_line_is_passed_over_and_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, [1, 2, 3])
    path.write_bytes(path.read_bytes()[:-9])
    assert _steps(path) == [1, 2]
    _write(path, [3], resume_step=2)
    assert _steps(path) == [1, 2, 3]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize(
    "line",
    [
        *("nonsense", "[1]", '{"loss": 1}', '{"step": "1"}', "[" * 100_000),
        *('{"step": 1, "split": []}', f'{{"step": 1, "loss": {10**400}}}'),
    ],
)
def test_a_damaged_middle_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:2 is not a metrics line"):
        list(read_metrics(path))


def test_a_missing_file_has_no_lines(tmp_path):
    assert list(read_metrics(tmp_path / "none.jsonl")) == []


def test_without_a_path_only_the_latest_are_kept(tmp_path):
    log = MetricsLog(None, tmp_path / "tensorboard")
    log.write(1, "train", {"loss": 1.0})
    log.close()
    assert log.latest["train"]["loss"] == 1.0
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_can_read_the_events(tmp_path):
    folder = tmp_path / "tensorboard"
    _write(tmp_path / "metrics.jsonl", [1, 2], tensorboard=folder)
    (first,) = (folder / "train").iterdir()
    _write(tmp_path / "metrics.jsonl", [2, 3], tensorboard=folder, resume_step=1)
    (second,) = set((folder / "train").iterdir()) - {first}
    header, start, *events = tf.compat.v1.train.summary_iterator(str(first))
    assert header.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (tf.compat.v1.SessionLog.START, 0)
    found = [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in events]
    assert found == [(1, "loss", 0.25), (2, "loss", 0.5)]
    # On resuming, TensorBoard is told to drop the orphaned step 2.
    _, start, *events = tf.compat.v1.train.summary_iterator(str(second))
    assert (start.session_log.status, start.step) == (tf.compat.v1.SessionLog.START, 2)
    assert [event.step for event in events] == [2, 3]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
