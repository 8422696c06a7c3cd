"""Sizes and latency side by side."""

import sys

import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.latency import benchmark_models, disk_size
from tests.helpers import tiny_checkpoint


def test_models_are_measured_side_by_side(tmp_path):
    models = {"teacher": tiny_checkpoint(), "student": tiny_checkpoint(num_layers=1)}
    costs = benchmark_models(models, batch_sizes=(1, 3), sequence_length=9, repeats=2)
    assert list(costs) == ["teacher", "student"]
    for name, cost in costs.items():
        assert cost.parameters == models[name].num_parameters()
        assert cost.flops == models[name].config.flops(9)
        assert [stats.batch_size for stats in cost.latency] == [1, 3]
        assert all(stats.median_ms > 0 for stats in cost.latency)
    assert costs["teacher"].flops == 3 * costs["student"].flops


def test_one_model_alone():
    costs = benchmark_models(
        {"only": tiny_checkpoint()}, batch_sizes=(2,), sequence_length=5, repeats=1
    )
    assert costs["only"].latency[0].batch_size == 2
    with pytest.raises(InputError, match="at least one"):
        benchmark_models({})


def test_disk_size_counts_files_or_weights(tmp_path):
    checkpoint = tiny_checkpoint()
    assert disk_size(checkpoint) == 4 * checkpoint.num_parameters()
    save_checkpoint(checkpoint, tmp_path / "m")
    expected = sum(path.stat().st_size for path in (tmp_path / "m").rglob("*") if path.is_file())
    assert disk_size(load_checkpoint(tmp_path / "m")) == expected


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
