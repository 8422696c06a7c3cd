"""Numbers as people read them."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.reporting import numbers

_THIN = "\u202f"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (9999, "9,999"),
        (12345, "12.3K"),
        (22713216, "22.7M"),
        (3e9, "3.00B"),
    ],
)
def test_count(value, text):
    assert numbers.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(22.35e9, "22.4 GFLOP"), (999_600, "1.00 MFLOP"), (500, "500 FLOP"), (3.2e21, "3.20 ZFLOP")],
)
def test_flops(value, text):
    assert numbers.flops(value).replace(_THIN, " ") == text


def test_size_and_ratio():
    assert numbers.size(90_852_864).replace(_THIN, " ") == "90.9 MB"
    assert numbers.size(12).replace(_THIN, " ") == "12 B"
    assert numbers.ratio(3.1006) == "3.1\u00d7"
    assert numbers.ratio(17.88) == "17.9\u00d7"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.250 s"), (61.5, "1 min 02 s"), (3599.7, "1 h 00 min"), (7325, "2 h 02 min")],
)
def test_seconds(value, text):
    assert numbers.seconds(value).replace(_THIN, " ") == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.47171, 4, "0.4717"),
        (2.3, 4, "2.300"),
        (1234.56, 4, "1,235"),
        (2.4e-7, 2, "2.4e-7"),
        (-0.05, 2, "-0.050"),
        (0.0, 4, "0"),
        (float("nan"), 4, "nan"),
        (123456789.0, 3, "1.23e8"),
    ],
)
def test_significant(value, digits, text):
    assert numbers.significant(value, digits) == text


@settings(max_examples=200)
@given(st.floats(1e-12, 1e12), st.integers(2, 6))
def test_significant_keeps_that_many_digits(value, digits):
    shown = float(numbers.significant(value, digits).replace(",", ""))
    assert shown == pytest.approx(value, rel=0.51 * 10 ** (1 - digits))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
