"""Tests of the choice of units, by score and at random."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.extraction.planning import UNIT_KINDS, plan_extraction, top_k
from etd_tf.extraction.scores import UnitScores
from tests.extraction.strategies import students, teachers
from tests.helpers import tiny_config

_STUDENT = {"num_layers": 2, "hidden_size": 9, "intermediate_size": 4}


def _scores(config, seed=0, **changes):
    generator = np.random.default_rng(seed)
    layers, heads, size = config.num_layers, config.num_heads, config.head_size
    arrays = {
        "hidden": generator.random(config.hidden_size),
        "ffn": generator.random((layers, config.intermediate_size)),
        "query_key": generator.random((layers, heads, size)),
        "value": generator.random((layers, heads, size)),
        "heads": generator.random((layers, heads)),
    }
    return UnitScores(**(arrays | changes), metric="taylor", teacher_fingerprint="a" * 64)


def test_top_k_breaks_ties_by_index_and_keeps_order():
    assert top_k(np.array([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [1, 2]
    assert top_k(np.array([2.0, 2.0, 1.0, 2.0]), 2).tolist() == [0, 1]
    assert top_k(np.ones(300), 40).tolist() == list(range(40))
    assert top_k(np.array([0.0, 5.0, 9.0]), 2).tolist() == [1, 2]


def _reference_draw(seed, config, student):
    """The documented draw order: hidden, then per layer query_key, value (per head), ffn."""
    generator = np.random.default_rng(seed)

    def pick(available, count):
        return np.sort(generator.choice(available, count, replace=False))

    def heads():
        size = config.head_size
        picks = [n * size + pick(size, student.head_size) for n in range(config.num_heads)]
        return np.concatenate(picks)

    hidden = pick(config.hidden_size, student.hidden_size)
    layers = []
    for _ in range(config.num_layers):
        query_key, value = heads(), heads()
        layers.append((query_key, value, pick(config.intermediate_size, student.intermediate_size)))
    return hidden, layers


def test_random_plan_follows_the_documented_draw_order():
    config = tiny_config()
    student = config.replace(**_STUDENT)
    plan = plan_extraction(config, student, seed=11)
    hidden, layers = _reference_draw(11, config, student)
    np.testing.assert_array_equal(plan.hidden, hidden)
    assert plan.layers == (2, 3)
    for index, layer in enumerate(plan.layers):
        for name, expected in zip(("query_key", "value", "ffn"), layers[layer - 1], strict=True):
            np.testing.assert_array_equal(getattr(plan, name)[index], expected)
    assert (plan.extraction, plan.seed, plan.teacher_fingerprint) == ("rand", 11, None)


@settings(max_examples=40)
@given(st.data())
def test_random_plans_are_reproducible_and_valid(data):
    config = data.draw(teachers())
    mode = data.draw(st.sampled_from(["neurons", "heads"]))
    student = data.draw(students(config, mode))
    seed = data.draw(st.integers(0, 2**63))
    plan = plan_extraction(config, student, seed=seed, head_mode=mode)
    assert plan == plan_extraction(config, student, seed=seed, head_mode=mode)
    for indices, size, limit in (
        (plan.hidden, student.hidden_size, config.hidden_size),
        *((x, student.hidden_size, config.hidden_size) for x in plan.query_key + plan.value),
        *((x, student.intermediate_size, config.intermediate_size) for x in plan.ffn),
    ):
        assert len(indices) == len(set(indices.tolist())) == size
        assert (np.diff(indices) > 0).all()
        assert 0 <= indices.min() <= indices.max() < limit


def test_another_seed_gives_another_plan_and_layers_differ():
    config = tiny_config(intermediate_size=200)
    student = config.replace(num_layers=2, intermediate_size=100)
    plans = [plan_extraction(config, student, seed=seed) for seed in range(5)]
    assert len({plan.to_json() for plan in plans}) == 5
    assert (plans[0].ffn[0] != plans[0].ffn[1]).any()


@settings(max_examples=40)
@given(st.data())
def test_kept_scores_are_never_below_dropped_ones(data):
    config = data.draw(teachers())
    mode = data.draw(st.sampled_from(["neurons", "heads"]))
    student = data.draw(students(config, mode))
    scores = _scores(config, seed=data.draw(st.integers(0, 99)))
    plan = plan_extraction(config, student, scores, head_mode=mode)

    def check(values, kept):
        dropped = np.delete(values, kept)
        assert not dropped.size or values[kept].min() >= dropped.max()

    check(scores.hidden, plan.hidden)
    size = config.head_size
    for index, layer in enumerate(plan.layers):
        check(scores.ffn[layer - 1], plan.ffn[index])
        if mode == "heads":
            check(scores.heads[layer - 1], np.unique(plan.value[index] // size))
            np.testing.assert_array_equal(plan.query_key[index], plan.value[index])
            continue
        for name in ("query_key", "value"):
            columns = getattr(plan, name)[index]
            for head in range(config.num_heads):
                kept = columns[columns // size == head] % size
                check(getattr(scores, name)[layer - 1, head], kept)


def test_plan_by_scores_is_bound_to_the_scored_teacher():
    config = tiny_config()
    plan = plan_extraction(config, config.replace(**_STUDENT), _scores(config))
    assert (plan.extraction, plan.seed, plan.teacher_fingerprint) == ("impt", None, "a" * 64)


def test_attention_scale_keeps_the_retained_part_of_the_logits():
    config = tiny_config()
    student = config.replace(hidden_size=9)
    scale = plan_extraction(config, student, seed=0).attention_scale
    assert scale**2 / np.sqrt(student.head_size) == pytest.approx(1 / np.sqrt(config.head_size))
    plain = plan_extraction(config, student, seed=0, rescale_attention=False)
    assert plain.attention_scale == 1.0
    assert plan_extraction(config, config, seed=0).attention_scale == 1.0
    heads = config.replace(hidden_size=5, num_heads=1)
    assert plan_extraction(config, heads, seed=0, head_mode="heads").attention_scale == 1.0


@pytest.mark.parametrize("kinds", [("hidden",), ("ffn",), ("heads",), ("ffn", "heads")])
def test_ablation_plans_mix_the_two_plans_unit_kind_by_kind(kinds):
    config = tiny_config()
    student, scores = config.replace(**_STUDENT), _scores(config)
    best = plan_extraction(config, student, scores)
    drawn = plan_extraction(config, student, seed=5)
    mixed = plan_extraction(config, student, scores, seed=5, importance_of=kinds)
    kind_of = {"query_key": "heads", "value": "heads", "ffn": "ffn"}
    np.testing.assert_array_equal(mixed.hidden, (best if "hidden" in kinds else drawn).hidden)
    for name, kind in kind_of.items():
        source = best if kind in kinds else drawn
        for ours, theirs in zip(getattr(mixed, name), getattr(source, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert mixed.extraction == "mixed"


def test_ablation_with_all_kinds_is_the_plan_by_scores():
    config = tiny_config()
    student, scores = config.replace(**_STUDENT), _scores(config)
    mixed = plan_extraction(config, student, scores, seed=5, importance_of=UNIT_KINDS)
    np.testing.assert_array_equal(mixed.ffn, plan_extraction(config, student, scores).ffn)


_REFUSALS = [
    ({"num_layers": 4}, {}, "num_layers=3 or less"),
    ({"hidden_size": 18}, {}, "hidden_size=15 or less"),
    ({"intermediate_size": 23}, {}, "intermediate_size=22 or less"),
    ({"num_heads": 5}, {}, "num_heads=3 or less"),
    ({"num_heads": 1}, {}, "num_heads=3 with a width"),
    ({"hidden_size": 9}, {"head_mode": "heads"}, "student.hidden_size=5 and student.num_heads=1"),
    ({"hidden_size": 4, "num_heads": 1}, {"head_mode": "heads"}, "hidden_size=5"),
    ({"num_heads": 1}, {"head_mode": "heads"}, "student.hidden_size=5 and student.num_heads=1"),
    ({}, {"head_mode": "dims"}, "Use neurons or heads"),
    ({"vocab_size": 98}, {}, "keeps the teacher's vocab_size=99"),
    ({"max_positions": 22}, {}, "keeps the teacher's max_positions=23"),
    ({"hidden_act": "relu"}, {}, "keeps the teacher's hidden_act='gelu'"),
    ({"layer_norm_epsilon": 1e-5}, {}, "layer_norm_epsilon"),
    ({}, {"seed": None}, "got neither of scores and seed"),
    ({}, {"seed": -1}, "whole number >= 0"),
    ({}, {"seed": True}, "whole number >= 0"),
    ({}, {"importance_of": ("ffn",)}, "needs scores and seed"),
    ({}, {"layer_selection": "first"}, "Use one of uniform"),
]


@pytest.mark.parametrize(("sizes", "settings_", "fix"), _REFUSALS)
def test_refusals_name_the_fix(sizes, settings_, fix):
    config = tiny_config(vocab_size=99)
    with pytest.raises(InputError, match=fix):
        plan_extraction(config, config.replace(**sizes), **({"seed": 0} | settings_))


def test_both_scores_and_seed_are_refused():
    config = tiny_config()
    with pytest.raises(InputError, match="got both of scores and seed"):
        plan_extraction(config, config, _scores(config), seed=1)
    with pytest.raises(InputError, match="kinds among hidden, ffn, heads"):
        plan_extraction(config, config, _scores(config), seed=1, importance_of=("neurons",))


def test_scores_of_another_architecture_are_refused():
    config = tiny_config()
    with pytest.raises(InputError, match="Score this teacher again"):
        plan_extraction(config, config, _scores(tiny_config(intermediate_size=21)))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
