"""Tests of one worker's side of agreement; tests/faults runs several."""

import sys

import pytest
import tensorflow as tf

from etd_tf.errors import InputError, WorkerLostError
from etd_tf.training.workers import Workers


@pytest.fixture
def workers():
    return Workers(tf.distribute.get_strategy())


def test_one_worker_agrees_with_itself(workers):
    assert (workers.count, workers.index, workers.is_chief) == (1, 0, True)
    assert workers.gather(7) == [7]
    workers.check_same_step(7)
    workers.check_same_run({"seed": 1})


def test_different_runs_are_refused(workers, monkeypatch):
    identity = {"teacher": "a1", "records": {"corpus": "b2"}, "loss": ["minilm", {}, 1.0]}
    sent = []
    monkeypatch.setattr(workers, "gather", lambda value: sent.append(value) or [value, value])
    workers.check_same_run(identity)
    assert len(set(sent)) == 3
    assert all(0 <= value < 2**24 for value in sent)
    others = iter([*sent[:2], sent[2] + 1])
    monkeypatch.setattr(workers, "gather", lambda value: [value, next(others)])
    with pytest.raises(InputError, match=r"not the same teacher\. They need equal flags"):
        workers.check_same_run(identity)


def test_the_chief_goes_first(workers, monkeypatch):
    log = []
    monkeypatch.setattr(workers, "gather", lambda _: log.append("met"))
    for index, expected in ((0, ["block", "met"]), (1, ["met", "block"])):
        workers.index = index
        log.clear()
        with workers.chief_first():
            log.append("block")
        assert log == expected


def test_a_chief_that_fails_does_not_wait_for_the_others(workers, monkeypatch):
    monkeypatch.setattr(workers, "gather", lambda _: pytest.fail("waited"))
    with pytest.raises(ZeroDivisionError), workers.chief_first():
        raise ZeroDivisionError


def test_different_steps_are_refused(workers, monkeypatch):
    monkeypatch.setattr(workers, "gather", lambda step: [step, 0])
    workers.check_same_step(0)
    with pytest.raises(InputError, match=r"different steps: \[20, 0\]\. They need one output_dir"):
        workers.check_same_step(20)


@pytest.mark.parametrize("kind", ["UnavailableError", "AbortedError", "InternalError"])
def test_a_lost_worker_is_told_from_a_bug(workers, kind):
    error = getattr(tf.errors, kind)(None, None, "connection reset")
    with pytest.raises(type(error)), workers.loss_reported():
        raise error
    workers.count = 3
    with (
        pytest.raises(
            WorkerLostError, match=rf"Another of the 3 workers is gone \({kind}\)\. Start"
        ),
        workers.loss_reported(),
    ):
        raise error
    with pytest.raises(ZeroDivisionError), workers.loss_reported():
        raise ZeroDivisionError


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
