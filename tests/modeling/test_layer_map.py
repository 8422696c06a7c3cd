"""Tests of the choice of teacher layers."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.modeling.layer_map import layer_map


@pytest.mark.parametrize(
    ("teacher", "student", "selection", "expected"),
    [
        (12, 4, "uniform", (3, 6, 9, 12)),
        (12, 5, "uniform", (2, 5, 7, 10, 12)),  # 2.4, 4.8, 7.2, 9.6, 12
        (8, 3, "uniform", (3, 5, 8)),
        (3, 2, "uniform", (2, 3)),  # 1.5 rounds up
        (12, 4, "top", (9, 10, 11, 12)),
        (12, 4, "bottom", (1, 2, 3, 4)),
        (12, 3, "1, 7,12", (1, 7, 12)),
        (12, 3, [2, 3, 11], (2, 3, 11)),
        (12, 4, np.array([2, 3, 5, 11]), (2, 3, 5, 11)),
    ],
)
def test_known_maps(teacher, student, selection, expected):
    assert layer_map(teacher, student, selection) == expected


@settings(max_examples=60)
@given(st.data())
def test_uniform_is_increasing_and_ends_with_the_last_layer(data):
    teacher = data.draw(st.integers(1, 48))
    student = data.draw(st.integers(1, teacher))
    layers = layer_map(teacher, student)
    assert len(layers) == student
    assert list(layers) == sorted(set(layers))
    assert layers[0] >= 1
    assert layers[-1] == teacher
    for rule in ("uniform", "top", "bottom"):
        assert layer_map(teacher, teacher, rule) == tuple(range(1, teacher + 1))


@pytest.mark.parametrize(
    ("student", "selection", "fix"),
    [
        (13, "uniform", "between 1 and 12"),
        (0, "uniform", "between 1 and 12"),
        (4, "middle", "Use one of uniform, top, bottom"),
        (4, "3,6,9", "must name 4 different"),
        (4, "3,9,6,12", "increasing order"),
        (2, "3,3", "increasing order"),
        (2, "0,12", "counted from 1 to 12"),
        (2, [3, 13], "counted from 1 to 12"),
    ],
)
def test_refusals_name_the_fix(student, selection, fix):
    with pytest.raises(InputError, match=fix):
        layer_map(12, student, selection)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
