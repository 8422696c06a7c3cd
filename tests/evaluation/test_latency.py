"""Latency statistics, on a clock that the test controls and on the real one."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation import latency
from etd_tf.evaluation.latency import (
    LatencyComparison,
    LatencyStats,
    compare_latency,
    measure_latency,
)
from tests.helpers import tiny_checkpoint, tiny_config


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(num_layers=1)


@pytest.fixture
def turns(monkeypatch):
    """Replaces passes by sleeping on a fake clock; returns the order of passes."""
    now, order = [0.0], []

    def compiled(checkpoint, batch_size, sequence_length):
        def forward():
            order.append(checkpoint.name)
            now[0] += checkpoint.durations[sum(n == checkpoint.name for n in order) - 1]

        return forward

    monkeypatch.setattr(latency, "_compiled", compiled)
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    return order


class FakeModel:
    def __init__(self, name, durations):
        self.name, self.durations = name, durations
        self.config = tiny_config(max_positions=128)


def test_median_and_percentile_leave_out_the_warmup(turns):
    timed = [0.010, 0.030, 0.020, 0.050, 0.040]
    stats = measure_latency(
        FakeModel("m", [9.0, 9.0, *timed]), batch_size=4, sequence_length=7, warmup=2, repeats=5
    )
    assert stats.median_ms == pytest.approx(30.0)
    assert stats.p95_ms == pytest.approx(1e3 * np.percentile(timed, 95))
    assert stats.sequences_per_second == pytest.approx(4 / 0.030)
    assert (stats.batch_size, stats.sequence_length, stats.repeats) == (4, 7, 5)


def test_two_models_take_turns_and_swap_the_first_place(turns):
    pair = compare_latency(
        FakeModel("t", [1.0] + [0.6] * 4), FakeModel("s", [1.0] + [0.2] * 4), warmup=1, repeats=4
    )
    assert "".join(turns) == "ts" + "ts" + "st" + "ts" + "st"
    assert pair.speedup == pytest.approx(3.0)


def test_a_real_model_is_timed(checkpoint):
    stats = measure_latency(checkpoint, batch_size=2, sequence_length=5, warmup=1, repeats=3)
    assert 0 < stats.median_ms <= stats.p95_ms
    assert stats.sequences_per_second == pytest.approx(2e3 / stats.median_ms)


def test_speedup_is_teacher_over_student():
    slow, fast = (LatencyStats(1, 8, 3, ms, ms, 1e3 / ms) for ms in (12.0, 3.0))
    assert LatencyComparison(slow, fast).speedup == 4.0


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"sequence_length": 24}, "Choose at most 23"),
        ({"repeats": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_refusals(checkpoint, arguments, fix):
    with pytest.raises(InputError, match=fix):
        measure_latency(checkpoint, **{"sequence_length": 5, **arguments})


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
