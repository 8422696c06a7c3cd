"""Tests of MiniLMv2's loss."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.losses import Features, MiniLMv2, ModelSpec, split_relation_heads
from etd_tf.losses.minilmv2 import default_relation_heads
from tests.helpers import tiny_config
from tests.losses import reference

MASK = reference.random_mask([7, 4, 1], 7)


def test_relation_heads_are_the_published_split():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)

    for heads in (1, 2, 3, 6, 12):
        np.testing.assert_array_equal(
            split_relation_heads(x, heads), reference.split_relation_heads(x, heads)
        )


def test_relation_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="does not divide the attention width 12"):
        split_relation_heads(np.zeros((2, 3, 5, 4)), 5)


@pytest.mark.parametrize(("relation_heads", "used"), [(None, 3), (1, 1)])
def test_minilmv2_equals_the_formula(relation_heads, used):
    teacher = reference.random_trace(0, MASK, layers=4, heads=3, size=5)
    student = reference.random_trace(1, MASK, layers=2, heads=2, size=3)
    loss = MiniLMv2(relation_heads=relation_heads, teacher_layer=3)

    terms = loss.compute_terms(Features(teacher), Features(student), {})

    for part, name in (("queries", "query"), ("keys", "key"), ("values", "value")):
        pair = [getattr(student, part)[-1], getattr(teacher, part)[2]]
        split = [reference.split_relation_heads(x, used) for x in pair]
        expected = reference.relation_loss(*map(reference.relation_scores, split), MASK)
        assert float(terms[f"{name}_relation_loss"]) == pytest.approx(expected, rel=1e-5)


def test_minilmv2_sees_no_head_count():
    teacher, student = reference.random_trace(0, MASK), reference.random_trace(1, MASK)
    joined = student._replace(
        queries=tuple(reference.split_relation_heads(x, 5) for x in student.queries),
        keys=tuple(reference.split_relation_heads(x, 1) for x in student.keys),
        values=tuple(reference.split_relation_heads(x, 15) for x in student.values),
    )
    loss = MiniLMv2(relation_heads=5)

    expected = float(loss.compute_loss(Features(teacher), Features(student)))

    found = float(loss.compute_loss(Features(teacher), Features(joined)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_default_relation_heads():
    assert default_relation_heads(768, 312) == 24
    assert default_relation_heads(768, 768) == 48
    assert default_relation_heads(768, 384) == 48
    assert default_relation_heads(15, 7) == 1


def test_unusable_relation_heads_name_the_usable_ones():
    with pytest.raises(InputError, match=r"15 .teacher. and 9 .student.. Usable numbers: 1, 3"):
        MiniLMv2(relation_heads=5).validate(
            ModelSpec(tiny_config()), ModelSpec(tiny_config(hidden_size=9))
        )
    with pytest.raises(InputError, match="whole number >= 1"):
        MiniLMv2(relation_heads=0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
