"""Tests of folding: what is recovered, and what stays a plain slice."""

import sys

import numpy as np
import pytest

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.planning import plan_extraction
from etd_tf.extraction.slicing import slice_parameters
from etd_tf.extraction.starts.folding import MEANS_ONLY, FoldedSlices
from etd_tf.extraction.starts.statistics import collect_statistics
from etd_tf.modeling.structure import SITES
from tests.extraction.numpy_bert import states
from tests.extraction.strategies import identity_plan
from tests.helpers import (
    random_batch,
    random_parameters,
    relative_error,
    tiny_checkpoint,
    tiny_config,
)

_NEARLY_ZERO = dict.fromkeys(SITES, 1e-7)


def fold_parameters(parameters, plan, statistics, ridges):
    return FoldedSlices(parameters, plan, statistics).parameters(ridges)


def _redundant(factor=2, seed=0):
    """A small model, the same function with every unit copied, and the plan back.

    Copies share their writers' columns; the readers' rows are split among them at random,
    so that slicing loses a part and only folding brings it back.
    """
    small = tiny_config(num_layers=2, hidden_size=6, num_heads=2, intermediate_size=5)
    large = small.replace(hidden_size=6 * factor, intermediate_size=5 * factor)
    generator = np.random.default_rng(seed)
    scale = (small.head_size / large.head_size) ** 0.25

    def copied(value):
        return np.repeat(value, factor, axis=-1)

    def split(value):
        shares = generator.random((len(value), factor))
        shares /= shares.sum(1, keepdims=True)
        return np.repeat(value, factor, axis=0) * shares.reshape(-1, 1)

    weights = random_parameters(small, seed)
    wide = {}
    for name, value in weights.items():
        result = copied(value)
        if ".key." in name:  # keys of copies are silent, or logits would change
            result[..., np.arange(result.shape[-1]) % factor != 0] = 0.0
        if ".query." in name or ".key." in name:
            result = result / scale
        if name.endswith("kernel"):
            result = split(result)
        wide[name] = result.astype(np.float32)
    columns = (np.arange(6) * factor,) * 2
    plan = ExtractionPlan(
        large,
        small,
        (1, 2),
        np.arange(6) * factor,
        columns,
        columns,
        (np.arange(5) * factor,) * 2,
        attention_scale=scale,
    )
    return weights, Checkpoint(large, wide), plan


def test_copies_of_kept_units_are_recovered():
    weights, teacher, plan = _redundant()
    batch = random_batch(teacher.config, batch_size=40, length=12)
    statistics = collect_statistics(teacher, batch)

    student = fold_parameters(teacher.parameters(), plan, statistics, _NEARLY_ZERO)

    for index in range(2):
        for name in (f"layers.{index}.output.kernel", f"layers.{index}.attention.output.kernel"):
            assert relative_error(student[name], weights[name]) < 1e-3
    # Readers of a LayerNorm's output are determined up to its one linear dependency.
    expected = states(weights, plan.student_config, batch)[-1]
    assert relative_error(states(student, plan.student_config, batch)[-1], expected) < 1e-3
    plain = slice_parameters(teacher.parameters(), plan)
    assert relative_error(states(plain, plan.student_config, batch)[-1], expected) > 0.05


def test_without_ridges_or_cuts_it_is_the_plain_slice():
    teacher = tiny_checkpoint(seed=1)
    student = teacher.config.replace(hidden_size=9, intermediate_size=4)
    plan = plan_extraction(teacher.config, student, seed=0)
    statistics = collect_statistics(teacher, random_batch(teacher.config))
    parameters = teacher.parameters()
    plain = slice_parameters(parameters, plan)
    unfolded = fold_parameters(parameters, plan, statistics, dict.fromkeys(SITES))
    whole = identity_plan(teacher.config)
    folded = fold_parameters(parameters, whole, statistics, _NEARLY_ZERO)
    for name, value in plain.items():
        np.testing.assert_array_equal(unfolded[name], value)
    for name, value in parameters.items():
        np.testing.assert_array_equal(folded[name], value)


def test_means_move_into_the_biases_alone():
    teacher = tiny_checkpoint(seed=1)
    student = teacher.config.replace(hidden_size=9, intermediate_size=4)
    plan = plan_extraction(teacher.config, student, seed=0)
    statistics = collect_statistics(teacher, random_batch(teacher.config))
    p = teacher.parameters()
    plain = slice_parameters(p, plan)
    folded = fold_parameters(p, plan, statistics, dict.fromkeys(SITES, MEANS_ONLY))
    for name, value in plain.items():
        if name.endswith("kernel"):
            np.testing.assert_array_equal(folded[name], value)
    mean, _ = statistics.moments("inner", 2)
    dropped = np.setdiff1d(np.arange(22), plan.ffn[1])
    gained = mean[dropped] @ p["layers.1.output.kernel"][dropped][:, plan.hidden]
    np.testing.assert_allclose(
        folded["layers.1.output.bias"] - plain["layers.1.output.bias"], gained, atol=1e-5
    )


def test_a_constant_neuron_moves_into_the_bias():
    teacher = tiny_checkpoint(seed=1)
    p = {name: value.copy() for name, value in teacher.parameters().items()}
    p["layers.0.intermediate.kernel"][:, 3] = 0.0
    p["layers.0.intermediate.bias"][3] = 2.0
    teacher = Checkpoint(teacher.config, p)
    keep = np.delete(np.arange(22), 3)
    full = identity_plan(teacher.config)
    plan = ExtractionPlan(
        teacher.config,
        teacher.config.replace(intermediate_size=21),
        full.layers,
        full.hidden,
        full.query_key,
        full.value,
        (keep,) * 3,
    )
    batch = random_batch(teacher.config, batch_size=40, length=12)
    statistics = collect_statistics(teacher, batch)
    student = fold_parameters(p, plan, statistics, {"inner": 1e-6})
    plain = slice_parameters(p, plan)
    name = "layers.0.output"
    np.testing.assert_allclose(student[f"{name}.kernel"], plain[f"{name}.kernel"], atol=1e-4)
    gained = student[f"{name}.bias"] - plain[f"{name}.bias"]
    gelu_of_two = 1.9544997
    np.testing.assert_allclose(gained, gelu_of_two * p[f"{name}.kernel"][3], atol=1e-4)


def test_ridge_solution_is_that_of_least_squares():
    """The inner site's fold against ridge regression on the activations themselves."""
    teacher = tiny_checkpoint(seed=4)
    plan = plan_extraction(teacher.config, teacher.config.replace(intermediate_size=8), seed=2)
    batch = random_batch(teacher.config, batch_size=30, length=12)
    statistics = collect_statistics(teacher, batch)
    p = teacher.parameters()
    student = fold_parameters(p, plan, statistics, {"inner": 0.3})

    from tests.extraction.starts.test_statistics import _rows

    x = _rows(teacher, batch, 2)["inner"].astype(np.float64)
    kept, dropped = plan.ffn[1], np.setdiff1d(np.arange(22), plan.ffn[1])
    centred = x - x.mean(0)
    penalty = 0.3 * centred[:, kept].var(0).mean() * len(x)
    gram = centred[:, kept].T @ centred[:, kept] + penalty * np.eye(8)
    prediction = np.linalg.solve(gram, centred[:, kept].T @ centred[:, dropped])
    kernel = p["layers.1.output.kernel"].astype(np.float64)
    expected = kernel[kept] + prediction @ kernel[dropped]
    assert relative_error(student["layers.1.output.kernel"], expected) < 1e-4
    constant = x.mean(0)[dropped] - x.mean(0)[kept] @ prediction
    bias = p["layers.1.output.bias"] + constant @ kernel[dropped]
    assert relative_error(student["layers.1.output.bias"], bias) < 1e-4


def test_permuting_neurons_permutes_nothing_else():
    teacher = tiny_checkpoint(seed=5)
    order = np.random.default_rng(3).permutation(22)
    p = teacher.parameters()
    for index in range(3):
        name = f"layers.{index}"
        p[f"{name}.intermediate.kernel"] = p[f"{name}.intermediate.kernel"][:, order]
        p[f"{name}.intermediate.bias"] = p[f"{name}.intermediate.bias"][order]
        p[f"{name}.output.kernel"] = p[f"{name}.output.kernel"][order]
    permuted = Checkpoint(teacher.config, p)
    batch = random_batch(teacher.config, batch_size=30, length=12)
    kept = np.arange(0, 22, 3)
    moved = np.sort(np.flatnonzero(np.isin(order, kept)))
    outputs = []
    for model, ffn in ((teacher, kept), (permuted, moved)):
        full = identity_plan(model.config)
        student = model.config.replace(intermediate_size=len(kept))
        plan = ExtractionPlan(
            model.config, student, full.layers, full.hidden, full.query_key, full.value, (ffn,) * 3
        )
        folded = fold_parameters(
            model.parameters(), plan, collect_statistics(model, batch), {"inner": 0.1}
        )
        outputs.append(states(folded, student, batch)[-1])
    assert relative_error(outputs[0], outputs[1]) < 1e-3


@pytest.mark.parametrize("ridge", [10.0, 1.0, 0.1, 0.01])
def test_units_that_never_vary_move_into_the_biases_at_any_ridge(ridge):
    """What float32 sums leave of their variance is rounding; that of dead neurons is 0."""
    weights = random_parameters(tiny_config())
    for what in ("kernel", "bias"):
        weights[f"layers.0.intermediate.{what}"][:] = 0.0
    teacher = Checkpoint(tiny_config(), weights)
    student = teacher.config.replace(hidden_size=9, intermediate_size=7)
    plan = plan_extraction(teacher.config, student, seed=0)
    batch = {"token_ids": np.full((16, 4), 7, np.int32), "segment_ids": np.zeros((16, 4), np.int32)}
    batch["padding_mask"] = np.tile(np.int32([1, 0, 0, 0]), (16, 1))
    slices = FoldedSlices(weights, plan, collect_statistics(teacher, batch))
    folded = slices.parameters(dict.fromkeys(SITES, ridge))
    means = slices.parameters(dict.fromkeys(SITES, MEANS_ONLY))
    assert all(np.array_equal(value, means[name]) for name, value in folded.items())


def test_one_decomposition_serves_every_ridge():
    weights, teacher, plan = _redundant(seed=1)
    statistics = collect_statistics(teacher, random_batch(teacher.config))
    slices = FoldedSlices(teacher.parameters(), plan, statistics)
    for ridge in (0.1, MEANS_ONLY, 0.1):
        ours = slices.parameters({"inner": ridge})
        theirs = fold_parameters(teacher.parameters(), plan, statistics, {"inner": ridge})
        assert all(np.array_equal(ours[name], theirs[name]) for name in weights)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
