"""Tests of the operations before a run's first step."""

import sys

import pytest

from etd_tf.extraction import UnitScores, score_units
from etd_tf.extraction.metrics import METRICS
from etd_tf.extraction.starts import Amount, ExtractionOptions, Work
from etd_tf.extraction.starts.compensated import compensation_flops
from tests.helpers import tiny_checkpoint, tiny_config


def forward(layers, hidden, inner, length):
    """FLOPs of an encoder on one sequence."""
    return layers * (2 * length * (4 * hidden**2 + 2 * hidden * inner) + 4 * length**2 * hidden)


def test_scoring_costs_what_its_metric_does():
    teacher, amount = tiny_checkpoint(), Amount(5, 11)
    once = forward(3, 15, 22, 11)
    assert METRICS["magnitude"].flops(teacher, "none", amount) == 0
    assert METRICS["activation"].flops(teacher, "none", amount) == 5 * once
    assert METRICS["taylor"].flops(teacher, "reconstruction", amount) == 5 * 3 * once
    vocabulary, masked = teacher.config.vocab_size, 2  # 15 % of 11, rounded up
    head = 6 * masked * (15 * 15 + 15 * vocabulary)
    assert METRICS["dynabert"].flops(teacher, "mlm", amount) == 5 * (3 * once + head)


def test_compensation_costs_forwards_moments_and_candidates():
    student = tiny_config(num_layers=2, hidden_size=9, intermediate_size=7)
    found = compensation_flops(tiny_config(), student, Amount(17, 11))
    moments = 2 * 2 * 11 * (3 * 16**2 + 23**2)
    candidates = 32 * 3 * forward(2, 9, 7, 11)  # an eighth of 17 sequences, rounded up
    assert found == 17 * (forward(3, 15, 22, 11) + moments) + candidates


def spent(made=None, *, teacher=None, **options):
    student = tiny_config(num_layers=2, hidden_size=9, intermediate_size=7)
    options = ExtractionOptions(**options)
    work = Work(teacher or tiny_checkpoint(), student, options)
    return options.start.flops(work, Amount(17, 11), made)


def test_an_extraction_costs_what_it_does():
    student = tiny_config(num_layers=2, hidden_size=9, intermediate_size=7)
    folding = compensation_flops(tiny_config(), student, Amount(17, 11))
    once = forward(3, 15, 22, 11)
    assert spent(importance_metric="activation") == {"scoring": 17 * once}
    assert spent(importance_metric="activation", compensate=True) == {
        "scoring": 17 * once,
        "compensation": folding,
    }
    assert spent(importance_loss="reconstruction")["scoring"] == 3 * 17 * once
    assert spent()["scoring"] == 3 * 17 * once  # auto: this teacher has no masked-LM head
    teacher = tiny_checkpoint(mlm_head=True)
    assert (
        spent(teacher=teacher)["scoring"]
        == spent(teacher=teacher, importance_loss="mlm")["scoring"]
    )
    assert spent(teacher=teacher)["scoring"] > 3 * 17 * once
    assert spent(extraction="rand", compensate=True) == {"compensation": folding}
    assert spent(extraction="none") == {}
    assert spent(importance_metric="magnitude") == {}


def test_what_was_scored_counts_and_not_what_was_asked_for(tmp_path):
    scores = score_units(
        tiny_checkpoint(),
        {"token_ids": [[2, 5, 6, 3]] * 3},
        loss="reconstruction",
        probes=2,
    )
    assert spent(scores)["scoring"] == 3 * 2 * 3 * forward(3, 15, 22, 11)
    scores.save(tmp_path / "scores.npz")
    reused = spent(UnitScores.load(tmp_path / "scores.npz"), scores=tmp_path / "scores.npz")
    assert reused == {}  # an earlier run's cost


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
