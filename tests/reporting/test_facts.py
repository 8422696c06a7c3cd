"""Facts of a report against independent arithmetic."""

import sys

import numpy as np
import pytest

from etd_tf.reporting import (
    describe_machine,
    make_curves,
    model_facts,
)
from etd_tf.reporting.facts import MAX_POINTS
from tests.helpers import tiny_checkpoint, tiny_config


def test_model_facts_count_what_is_there():
    checkpoint = tiny_checkpoint(mlm_head=True)
    facts = model_facts(checkpoint, sequence_length=7)
    parameters = checkpoint.parameters()
    assert facts.parameters == sum(value.size for value in parameters.values())
    assert facts.layer_parameters == sum(
        value.size for name, value in parameters.items() if name.startswith("layers.")
    )
    assert facts.bytes_on_disk == sum(value.nbytes for value in parameters.values())
    assert facts.source == "tiny checkpoint 0"
    assert (facts.num_layers, facts.hidden_size, facts.num_heads) == (3, 15, 3)


def flops(config, length):
    """Counts products of one forward pass, matrix by matrix."""
    hidden, inner = config.hidden_size, config.intermediate_size
    projections = 4 * 2 * length * hidden * hidden
    scores_and_context = 2 * 2 * length * length * hidden
    feed_forward = 2 * 2 * length * hidden * inner
    return config.num_layers * (projections + scores_and_context + feed_forward)


def test_flops_of_a_forward_pass():
    teacher = tiny_config()
    assert model_facts(tiny_checkpoint(), sequence_length=9).flops == flops(teacher, 9)


def test_curves_by_split_and_name():
    lines = [
        {"step": 0, "split": "validation", "loss": 3.0, "hidden": 1.0},
        {"step": 1, "split": "train", "loss": 2, "hidden": 0.5, "learning_rate": 0.1},
        {"step": 2, "split": "train", "loss": 1.5, "hidden": 0.4, "learning_rate": 0.2},
        {"step": 2, "split": "validation", "loss": 1.0, "seconds": 9.0, "note": "text"},
    ]
    curves = make_curves(lines)
    assert [(c.split, c.name) for c in curves] == [
        ("validation", "loss"),
        ("train", "loss"),
        ("validation", "hidden"),
        ("train", "hidden"),
        ("train", "learning_rate"),
    ]
    assert curves[1].steps == (1, 2)
    assert curves[1].values == (2.0, 1.5)
    assert make_curves([]) == ()


@pytest.mark.parametrize("count", [1, MAX_POINTS, MAX_POINTS + 1, 10 * MAX_POINTS + 7])
def test_long_curves_are_thinned_but_keep_their_ends(count):
    lines = [{"step": step, "split": "train", "loss": -step} for step in range(1, count + 1)]
    (curve,) = make_curves(lines)
    assert len(curve.steps) <= MAX_POINTS + 1
    assert (curve.steps[0], curve.steps[-1]) == (1, count)
    np.testing.assert_array_equal(np.array(curve.values), -np.array(curve.steps))


def test_machine_is_described():
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_bytes > 1e8
    assert {"python", "tensorflow", "keras"} <= set(machine.versions)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
