"""Tests of the operations before a run's first step."""

import sys

import pytest

from etd_tf.jobs.compare_costs import compensation_flops, scores_flops
from tests.helpers import tiny_checkpoint, tiny_config


def forward(layers, hidden, inner, length):
    """FLOPs of an encoder on one sequence."""
    return layers * (2 * length * (4 * hidden**2 + 2 * hidden * inner) + 4 * length**2 * hidden)


def test_scoring_costs_what_its_metric_does():
    teacher, amount = tiny_checkpoint(), {"sequences": 5, "sequence_length": 11}
    once = forward(3, 15, 22, 11)
    assert scores_flops("magnitude", "none", teacher, **amount) == 0
    assert scores_flops("activation", "none", teacher, **amount) == 5 * once
    assert scores_flops("taylor", "reconstruction", teacher, **amount) == 5 * 3 * once
    vocabulary, masked = teacher.config.vocab_size, 2  # 15 % of 11, rounded up
    head = 6 * masked * (15 * 15 + 15 * vocabulary)
    assert scores_flops("dynabert", "mlm", teacher, **amount) == 5 * (3 * once + head)


def test_compensation_costs_forwards_moments_and_candidates():
    student = tiny_config(num_layers=2, hidden_size=9, intermediate_size=7)
    found = compensation_flops(tiny_config(), student, sequences=17, sequence_length=11)
    moments = 2 * 2 * 11 * (3 * 16**2 + 23**2)
    candidates = 32 * 3 * forward(2, 9, 7, 11)  # an eighth of 17 sequences, rounded up
    assert found == 17 * (forward(3, 15, 22, 11) + moments) + candidates


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
