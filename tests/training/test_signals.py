"""Tests of ending a loop on a signal."""

import os
import signal
import sys
import threading

import pytest

from etd_tf.errors import Interrupted
from etd_tf.training.signals import catch_signals

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_is_remembered_and_the_handler_restored(signum):
    before = signal.getsignal(signum)
    with catch_signals() as caught:
        assert caught == []
        os.kill(os.getpid(), signum)
        assert caught == [signum]
    assert signal.getsignal(signum) is before


def test_a_second_signal_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with catch_signals() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as stop:
            os.kill(os.getpid(), signal.SIGINT)
    assert (caught, stop.value.signum) == ([signal.SIGTERM], signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGUSR1])
def test_a_repeated_notice_is_not_impatience(signum):
    with catch_signals() as caught:
        os.kill(os.getpid(), signum)
        os.kill(os.getpid(), signum)
    assert caught == [signum]


def test_under_nohup_a_closed_terminal_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals() as caught:
            os.kill(os.getpid(), signal.SIGHUP)
        assert caught == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with catch_signals() as caught:
            seen.append(caught)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[]]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
