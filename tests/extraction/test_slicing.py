"""Tests of slicing against float64 NumPy models: what extraction keeps exactly."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.planning import plan_extraction
from etd_tf.extraction.slicing import slice_parameters
from etd_tf.modeling.structure import parameter_shapes
from tests.extraction.composition import compose
from tests.extraction.numpy_bert import states
from tests.extraction.strategies import identity_plan, random_plans, teachers
from tests.helpers import random_batch, random_parameters, relative_error, tiny_config

_SETTINGS = settings(max_examples=25)


def _weights(config, seed=0, *, mlm_head=True):
    """Float64 weights, so that "close" can mean rounding in the tenth digit."""
    parameters = random_parameters(config, seed, mlm_head=mlm_head)
    return {name: value.astype(np.float64) for name, value in parameters.items()}


def _output(parameters, config, batch):
    return states(parameters, config, batch)[-1]


def _plan(config, *, hidden=None, query_key=None, value=None, ffn=None):
    """The identity plan with some units left out, the same in every layer."""
    full = identity_plan(config)

    def each(indices, default):
        return default if indices is None else (np.asarray(indices),) * config.num_layers

    query_key, value = each(query_key, full.query_key), each(value, full.value)
    hidden = full.hidden if hidden is None else np.asarray(hidden)
    ffn = each(ffn, full.ffn)
    student = config.replace(intermediate_size=len(ffn[0]))
    return ExtractionPlan(config, student, full.layers, hidden, query_key, value, ffn)


def test_every_weight_follows_the_slicing_table():
    config = tiny_config()
    student = config.replace(num_layers=2, hidden_size=9, intermediate_size=4)
    plan = plan_extraction(config, student, seed=4)
    teacher = _weights(config)
    sliced = slice_parameters(teacher, plan)

    hid, scale = plan.hidden, (3 / 5) ** 0.25
    for index, layer in enumerate(plan.layers):
        qk, vo, ffn = plan.query_key[index], plan.value[index], plan.ffn[index]
        before, after = f"layers.{layer - 1}", f"layers.{index}"
        for name, rows, columns, factor in (
            ("attention.query", hid, qk, scale),
            ("attention.key", hid, qk, scale),
            ("attention.value", hid, vo, 1.0),
            ("attention.output", vo, hid, 1.0),
            ("intermediate", hid, ffn, 1.0),
            ("output", ffn, hid, 1.0),
        ):
            kernel = teacher[f"{before}.{name}.kernel"][rows][:, columns]
            np.testing.assert_array_equal(sliced[f"{after}.{name}.kernel"], factor * kernel)
            bias = teacher[f"{before}.{name}.bias"][columns]
            np.testing.assert_array_equal(sliced[f"{after}.{name}.bias"], factor * bias)
        for name in ("attention_layer_norm.gamma", "output_layer_norm.beta"):
            expected = teacher[f"{before}.{name}"][hid]
            np.testing.assert_array_equal(sliced[f"{after}.{name}"], expected)
    for name in ("embeddings.token", "embeddings.position", "embeddings.segment"):
        np.testing.assert_array_equal(sliced[name], teacher[name][:, hid])
    for name in ("pooler", "mlm.dense"):
        kernel = teacher[f"{name}.kernel"][hid][:, hid]
        np.testing.assert_array_equal(sliced[f"{name}.kernel"], kernel)
        np.testing.assert_array_equal(sliced[f"{name}.bias"], teacher[f"{name}.bias"][hid])
    np.testing.assert_array_equal(
        sliced["mlm.layer_norm.gamma"], teacher["mlm.layer_norm.gamma"][hid]
    )
    np.testing.assert_array_equal(sliced["mlm.output_bias"], teacher["mlm.output_bias"])


@_SETTINGS
@given(random_plans(), st.booleans(), st.booleans())
def test_shapes_are_the_students(plan, pooler, mlm_head):
    config = plan.teacher_config
    teacher = random_parameters(config, pooler=pooler, mlm_head=mlm_head)
    sliced = slice_parameters(teacher, plan)
    expected = parameter_shapes(plan.student_config, pooler=pooler, mlm_head=mlm_head)
    assert {name: value.shape for name, value in sliced.items()} == expected
    assert {value.dtype for value in sliced.values()} == {np.dtype(np.float32)}


@_SETTINGS
@given(teachers())
def test_identity_plan_is_exact_and_shares_no_memory(config):
    teacher = random_parameters(config, mlm_head=True)
    sliced = slice_parameters(teacher, identity_plan(config))
    assert sliced.keys() == teacher.keys()
    for name, value in sliced.items():
        np.testing.assert_array_equal(value, teacher[name])
        assert not np.shares_memory(value, teacher[name])


@_SETTINGS
@given(st.data(), st.booleans())
def test_slicing_twice_is_slicing_by_the_composed_plan(data, rescale):
    first = data.draw(random_plans(rescale=rescale))
    second = data.draw(random_plans(first.student_config, rescale=rescale))
    teacher = _weights(first.teacher_config)
    twice = slice_parameters(slice_parameters(teacher, first), second)
    once = slice_parameters(teacher, compose(first, second))
    assert twice.keys() == once.keys()
    for name, value in twice.items():
        if rescale:
            assert relative_error(value, once[name]) < 1e-12
        else:
            np.testing.assert_array_equal(value, once[name])


@_SETTINGS
@given(teachers(), st.integers(0, 2**31))
def test_cutting_silent_neurons_keeps_the_function(config, seed):
    generator = np.random.default_rng(seed)
    count = config.intermediate_size
    ffn = np.sort(generator.choice(count, int(generator.integers(1, count + 1)), replace=False))
    teacher = _weights(config, seed=2)
    for index in range(config.num_layers):
        teacher[f"layers.{index}.output.kernel"][np.setdiff1d(np.arange(count), ffn)] = 0.0
    plan = _plan(config, ffn=ffn)
    batch = random_batch(config)
    student = slice_parameters(teacher, plan)
    expected = _output(teacher, config, batch)
    assert relative_error(_output(student, plan.student_config, batch), expected) < 1e-10


@_SETTINGS
@given(
    st.sampled_from(["neurons", "heads"]),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3)),
    st.integers(0, 2**31),
)
def test_inflated_model_is_extracted_back(head_mode, sizes, seed):
    """Widens a model by silent units of every kind; cutting them gives the model back."""
    heads, size, factor = sizes
    generator = np.random.default_rng(seed)
    small = tiny_config(
        num_layers=2, hidden_size=heads * size, num_heads=heads, intermediate_size=7
    )
    plan = _inflation_plan(small, factor, head_mode, generator)
    weights = _weights(small, seed=3, mlm_head=False)
    wide = _inflate(weights, plan, factor, generator)
    batch = random_batch(small)
    expected = _output(weights, small, batch)
    wide_output = _output(wide, plan.teacher_config, batch)
    assert relative_error(wide_output[..., plan.hidden], expected) < 1e-9

    student = slice_parameters(wide, plan)

    assert relative_error(_output(student, small, batch), expected) < 1e-9
    for name, value in weights.items():
        if "query" in name or "key" in name:
            assert relative_error(student[name], value) < 1e-12  # scaled up, then down
        else:
            np.testing.assert_array_equal(student[name], value)


def _inflation_plan(small, factor, head_mode, generator):
    """Random places for a small model's units in one that is `factor` times as wide."""
    heads, size = small.num_heads, small.head_size
    large_heads = heads * factor if head_mode == "heads" else heads
    large = small.replace(
        hidden_size=small.hidden_size * factor, num_heads=large_heads, intermediate_size=11
    )

    def pick(available, count):
        return np.sort(generator.choice(available, count, replace=False))

    def columns():
        kept = pick(large_heads, heads)
        dims = [pick(large.head_size, size) for _ in kept]
        return np.concatenate([h * large.head_size + d for h, d in zip(kept, dims, strict=True)])

    query_key = tuple(columns() for _ in range(2))
    # one of the copies of each channel
    hidden = np.arange(small.hidden_size) * factor + generator.integers(
        0, factor, small.hidden_size
    )
    return ExtractionPlan(
        large,
        small,
        (1, 2),
        hidden,
        query_key,
        query_key if head_mode == "heads" else tuple(columns() for _ in range(2)),
        tuple(pick(11, 7) for _ in range(2)),
        head_mode=head_mode,
        attention_scale=(size / large.head_size) ** 0.25,
    )


def _inflate(weights, plan, factor, generator):
    """Widens a model: writers copy channels, readers ignore copies, new units are silent.

    A silent unit may compute anything as long as its only reader has zeros for it: rows of
    the output kernels, and keys for queries.
    """
    config = plan.teacher_config

    def spread(value, axis, places, length, filling=0.0):
        shape = list(value.shape)
        shape[axis] = length
        result = filling * generator.normal(size=shape)
        result[(slice(None),) * (axis % value.ndim) + (places,)] = value
        return result

    def outputs(part, index, value):
        if part in ("query", "key"):
            filling = 0.0 if part == "key" else 1.0
            places = plan.query_key[index]
            return spread(value / plan.attention_scale, -1, places, config.hidden_size, filling)
        if part == "value":
            return spread(value, -1, plan.value[index], config.hidden_size, 1.0)
        if part == "intermediate":
            return spread(value, -1, plan.ffn[index], config.intermediate_size, 1.0)
        return np.repeat(value, factor, axis=-1)

    wide = {}
    for name, value in weights.items():
        index = int(name.split(".")[1]) if name.startswith("layers") else 0
        wide[name] = outputs(name.split(".")[-2], index, value)
        if name.endswith("attention.output.kernel"):
            wide[name] = spread(wide[name], 0, plan.value[index], config.hidden_size)
        elif name.endswith("output.kernel"):
            wide[name] = spread(wide[name], 0, plan.ffn[index], config.intermediate_size)
        elif name.endswith("kernel"):
            wide[name] = spread(wide[name], 0, plan.hidden, config.hidden_size)
    return wide


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        (lambda w: w.pop("layers.1.output.bias"), "layers.1.output.bias is missing"),
        (lambda w: w.update(extra=np.ones(3)), "extra has no place"),
        (lambda w: w.update({"pooler.bias": np.ones(3)}), r"pooler.bias has shape \(3,\)"),
    ],
)
def test_weights_of_other_shapes_are_refused(change, fix):
    config = tiny_config()
    teacher = random_parameters(config)
    change(teacher)
    with pytest.raises(InputError, match=fix):
        slice_parameters(teacher, identity_plan(config))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
