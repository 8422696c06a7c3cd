"""Tests of composing plans."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.extraction.composition import compose
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.planning import plan_extraction
from tests.extraction.strategies import identity_plan, random_plans
from tests.helpers import tiny_config


def _plan(**changes):
    teacher = tiny_config()
    student = teacher.replace(num_layers=2, hidden_size=9, intermediate_size=4)
    return dataclasses.replace(plan_extraction(teacher, student, seed=3), **changes)


@settings(max_examples=40)
@given(st.data())
def test_composition_chains_every_index(data):
    first = data.draw(random_plans())
    second = data.draw(random_plans(first.student_config))
    both = compose(first, second)
    labels = np.arange(first.teacher_config.hidden_size)
    np.testing.assert_array_equal(labels[first.hidden][second.hidden], both.hidden)
    assert both.layers == tuple(first.layers[layer - 1] for layer in second.layers)
    assert both.attention_scale == first.attention_scale * second.attention_scale
    for index, layer in enumerate(second.layers):
        for name in ("query_key", "value", "ffn"):
            expected = getattr(first, name)[layer - 1][getattr(second, name)[index]]
            np.testing.assert_array_equal(getattr(both, name)[index], expected)
    assert ExtractionPlan.from_json(both.to_json()) == both


def test_composing_uniform_maps_need_not_be_uniform():
    sizes = {"hidden_size": 6, "num_heads": 2, "intermediate_size": 4}
    twelve, eight, three = (tiny_config(num_layers=n, **sizes) for n in (12, 8, 3))
    both = compose(plan_extraction(twelve, eight, seed=1), plan_extraction(eight, three, seed=1))
    assert both.layers == (5, 8, 12)
    assert plan_extraction(twelve, three, seed=1).layers == (4, 8, 12)


def test_identity_composes_to_the_other_plan():
    plan = _plan(extraction="chosen", seed=None)
    assert compose(identity_plan(plan.teacher_config), plan) == plan
    assert compose(plan, identity_plan(plan.student_config)) == plan


def test_composition_refuses_plans_that_do_not_meet():
    with pytest.raises(InputError, match="starts from another architecture"):
        compose(_plan(), _plan())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
