"""Tests of the table of weights, against numbers worked out by hand."""

import sys

import pytest

from etd_tf.modeling import BertConfig
from etd_tf.modeling.structure import (
    LAYER,
    SITES,
    axis_sizes,
    layer_flops,
    parameter_shapes,
    readers,
    weights_of,
)

CONFIG = BertConfig(11, 2, 6, 3, 7, max_positions=9, type_vocab_size=4)


def test_shapes_of_a_layer():
    shapes = parameter_shapes(CONFIG)
    layer = {name.removeprefix("layers.1."): s for name, s in shapes.items() if "layers.1" in name}
    square = [f"attention.{part}" for part in ("query", "key", "value", "output")]
    expected = {
        **{f"{name}.kernel": (6, 6) for name in square},
        **{f"{name}.bias": (6,) for name in square},
        **{f"{n}_layer_norm.{p}": (6,) for n in ("attention", "output") for p in ("gamma", "beta")},
        "intermediate.kernel": (6, 7),
        "intermediate.bias": (7,),
        "output.kernel": (7, 6),
        "output.bias": (6,),
    }
    assert layer == expected


def test_shapes_outside_the_layers():
    shapes = parameter_shapes(CONFIG, mlm_head=True)
    outside = {name: shape for name, shape in shapes.items() if not name.startswith("layers.")}
    assert outside == {
        "embeddings.token": (11, 6),
        "embeddings.position": (9, 6),
        "embeddings.segment": (4, 6),
        "embeddings.layer_norm.gamma": (6,),
        "embeddings.layer_norm.beta": (6,),
        "pooler.kernel": (6, 6),
        "pooler.bias": (6,),
        "mlm.dense.kernel": (6, 6),
        "mlm.dense.bias": (6,),
        "mlm.layer_norm.gamma": (6,),
        "mlm.layer_norm.beta": (6,),
        "mlm.output_bias": (11,),
    }
    assert not any(
        name.startswith(("pooler", "mlm")) for name in parameter_shapes(CONFIG, pooler=False)
    )


def test_counts_and_operations_by_hand():
    layer = 4 * (6 * 6 + 6) + (6 * 7 + 7) + (7 * 6 + 6) + 4 * 6
    tables = (11 + 9 + 4) * 6 + 2 * 6
    assert CONFIG.num_parameters(pooler=False) == tables + 2 * layer
    assert CONFIG.num_parameters() == tables + 2 * layer + 6 * 6 + 6
    head = 6 * 6 + 6 + 2 * 6 + 11
    assert CONFIG.num_parameters(mlm_head=True) == CONFIG.num_parameters() + head
    assert layer_flops(CONFIG, 5) == 2 * 5 * (4 * 36 + 2 * 42) + 4 * 5 * 5 * 6
    assert CONFIG.flops(5) == 2 * layer_flops(CONFIG, 5)


def test_every_unit_of_a_layer_is_written_once_and_read_by_a_kernel():
    """What a cut needs: who makes a unit of a site, and who reads it, agree on its kind."""
    for site in SITES:
        kinds = {weight.axes[0] for weight in readers(site)}
        assert len(kinds) == 1, site
    kernels = [weight for weight in LAYER if weight.is_table]
    assert sorted(w.name for site in SITES for w in readers(site)) == sorted(
        w.name for w in kernels
    )
    biases = {
        w.name.replace(".bias", ".kernel"): w.axes[0] for w in LAYER if w.name.endswith("bias")
    }
    assert biases == {weight.name: weight.axes[1] for weight in kernels}


@pytest.mark.parametrize("kind", sorted(axis_sizes(CONFIG)))
def test_every_kind_of_unit_is_used(kind):
    assert any(kind in weight.axes for _, weight, _ in weights_of(1, mlm_head=True))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
