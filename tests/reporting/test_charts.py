"""Charts put the points where the axes say."""

import re
import sys
import xml.etree.ElementTree as ET

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from etd_tf.reporting.charts import Series, line_chart, tick_labels, ticks


def parse(figure):
    return ET.fromstring(figure)


def coordinates(figure):
    text = parse(figure).find(".//polyline").get("points")
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def tick_positions(figure, axis):
    """Maps the values on an axis to pixels, from the labels of the drawing."""
    found = {}
    for element in parse(figure).iter("text"):
        if re.fullmatch(r"[-\d.,]+", element.text) and (
            (element.get("text-anchor") == "end") == (axis == "y")
        ):
            value = float(element.text.replace(",", ""))
            found[value] = float(element.get(axis)) - (4 if axis == "y" else 0)
    return found


def test_points_lie_on_the_grid():
    figure = line_chart(
        [Series("loss", [0, 100, 200], [2.0, 1.0, 0.5])], title="Loss", x_label="step"
    )
    points = coordinates(figure)
    x, y = tick_positions(figure, "x"), tick_positions(figure, "y")
    assert points[0] == pytest.approx((x[0], y[2.0]), abs=0.11)
    assert points[1] == pytest.approx((x[100], y[1.0]), abs=0.11)
    assert points[2] == pytest.approx((x[200], y[0.5]), abs=0.11)
    assert points[0][1] < points[1][1] < points[2][1]  # larger values are higher up


def test_values_that_are_not_finite_are_left_out():
    figure = line_chart(
        [Series("a", [1, 2, 3], [1.0, float("nan"), float("inf")])], title="t", x_label="x"
    )
    assert len(coordinates(figure)) == 1
    assert parse(figure).find(".//circle") is not None  # a single point is visible


def test_bands_and_levels():
    series = [
        Series("a", [0, 10], [1.0, 2.0], low=[0.0, 1.0], high=[2.0, 4.0]),
        Series("level", [0, 10], [3.0, 3.0], dashed=True),
    ]
    figure = line_chart(series, title="t", x_label="x")
    x, y = tick_positions(figure, "x"), tick_positions(figure, "y")
    (polygon,) = parse(figure).iter("polygon")
    corners = [tuple(map(float, pair.split(","))) for pair in polygon.get("points").split()]
    expected = [(x[0], y[2.0]), (x[10], y[4.0]), (x[10], y[1.0]), (x[0], y[0.0])]
    assert [c for pair in corners for c in pair] == pytest.approx(
        [c for pair in expected for c in pair], abs=0.11
    )
    dashed = [line.get("class") for line in parse(figure).iter("polyline")]
    assert dashed == ["line c0", "line c0 dashed"]


def test_no_values_at_all_is_said_in_words():
    figure = line_chart([Series("a", [], [])], title="t", x_label="x")
    assert "No values were recorded" in figure
    assert "<svg" not in figure


def test_text_is_escaped():
    figure = line_chart(
        [Series("<a>", [1], [1.0]), Series("b&c", [1], [1.0])], title='"<t>', x_label="<x>"
    )
    text = "".join(parse(figure).itertext())
    assert all(part in text for part in ("<a>", "b&c", '"<t>', "<x>"))


def test_legend_names_several_series_only():
    one = [Series("alone", [1, 2], [1.0, 2.0])]
    assert "legend" not in line_chart(one, title="t", x_label="x")
    assert "alone" in line_chart([*one, Series("b", [1], [1.0])], title="t", x_label="x")


@settings(max_examples=200)
@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(3, 8))
def test_ticks_enclose_the_interval_evenly(low, width, number):
    values = ticks(low, low + width, number)
    assert values == sorted(values)
    assert 2 <= len(values) <= number + 3
    step = values[1] - values[0]
    assert values[0] <= low + 1e-6 * step
    assert values[-1] >= low + width - 1e-6 * step


def test_ticks_are_round():
    assert ticks(0.0, 2.3, 5) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert ticks(0, 1000, 6) == [0, 200, 400, 600, 800, 1000]


def test_tick_labels_have_the_digits_they_need():
    assert tick_labels([0.0, 0.5, 1.0]) == ["0", "0.5", "1.0"]
    assert tick_labels([0.0, 1e-4, 2e-4]) == ["0", "1e-4", "2e-4"]
    assert tick_labels([1000.0, 2000.0]) == ["1,000", "2,000"]
    assert tick_labels([0.693, 0.6935, 0.694]) == ["0.6930", "0.6935", "0.6940"]
    assert tick_labels([0.0, 2e-5, 1.2e-4]) == ["0", "2.0e-5", "1.2e-4"]


@given(
    st.floats(-1e6, 1e6), st.floats(1e-9, 1e6).filter(lambda width: width > 0), st.integers(2, 8)
)
def test_no_two_ticks_have_one_label(low, width, number):
    assume(width > 1e-9 * abs(low))
    labels = tick_labels(ticks(low, low + width, number))
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("steps", [(0, 1, 3), (100_000, 100_600, 102_000)])
def test_steps_close_together_have_labels_of_their_own(steps):
    figure = line_chart([Series("loss", steps, (1.0, 2.0, 3.0))], title="Loss", x_label="step")
    labels = re.findall(r'text-anchor="middle">([^<]+)</text>', figure)
    assert len(set(labels)) == len(labels) > 3


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
