"""Tests of the progress line: fractions, rates, remaining time, terminal and log forms."""

import io
import sys
import time

import pytest

from etd_tf.progress import Tracker, track


class Clock:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def log(capsys):
    """Standard error as a log file: what was written since the last call."""
    return lambda: capsys.readouterr().err


def test_a_log_gets_a_line_every_ten_seconds(clock, log):
    with track("Scoring units", 4000, "examples") as tracker:
        for _ in range(30):
            clock.now += 1.0
            tracker.advance(100)
    text = log()
    lines = text.splitlines()
    assert len(lines) == 4  # at 10, 20 and 30 seconds, and at the end
    assert lines[0] == "Scoring units: 1,000/4,000 examples (25 %)  100.0 examples/s  ETA 0:30"
    assert lines[1].startswith("Scoring units: 2,000/4,000 examples (50 %)")
    assert "\x1b" not in text


def test_a_terminal_line_is_redrawn_and_ended(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with track("Training", 10, "steps") as tracker:
        for _ in range(10):
            clock.now += 0.3
            tracker.advance(note="loss 1.5")
    text = terminal.getvalue()
    assert text.count("\r\x1b[2K") == 11
    assert text.endswith("loss 1.5\n")
    assert text.count("\n") == 1


def test_quick_steps_are_not_all_drawn(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    tracker = Tracker("Reading", None, "lines")
    for _ in range(100):
        clock.now += 0.01
        tracker.advance()
    assert terminal.getvalue().count("\r") <= 5


def test_earlier_work_counts_for_the_fraction_but_not_the_rate(clock, log):
    tracker = Tracker("Training", 100, "steps", done=50)
    clock.now += 10.0
    tracker.advance(20)
    assert tracker.rate == pytest.approx(2.0)
    assert log() == "Training: 70/100 steps (70 %)  2.0 steps/s  ETA 0:15\n"


def test_an_unknown_total_shows_no_remaining_time(clock, log):
    with track("Reading", None, "lines") as tracker:
        clock.now += 2.0
        tracker.advance(3000)
    assert log() == "Reading: 3,000 lines  1,500.0 lines/s\n"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(59.4, "0:59"), (59.6, "1:00"), (3600, "1:00:00"), (36061, "10:01:01")]
)
def test_remaining_time(clock, log, seconds, shown):
    tracker = Tracker("Work", 2, "halves")
    clock.now += seconds
    tracker.advance()
    assert f"ETA {shown}\n" in log()


def test_no_work_at_all_is_finished_work(clock, log):
    with track("Reading", 0, "lines"):
        pass
    assert log().startswith("Reading: 0/0 lines (100 %)")


def test_the_last_state_is_shown_when_the_work_fails(clock, log):
    def fail():
        with track("Training", 10, "steps") as tracker:
            clock.now += 1.0
            tracker.advance(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert log().startswith("Training: 3/10 steps (30 %)")


def test_a_note_stays_until_the_next_one(clock, log):
    tracker = Tracker("Training", None, "steps")
    tracker.advance(note="loss 2.0")
    clock.now += 11.0
    tracker.advance()
    assert log().endswith("loss 2.0\n")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
