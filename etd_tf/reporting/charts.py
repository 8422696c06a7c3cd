"""Line charts as inline SVG; colours come from the page's style sheet."""

import dataclasses
import html
import math
from collections.abc import Sequence

from etd_tf.reporting.numbers import count, significant

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 22, 12, 36
_NARROW = 600  # a wider drawing scrolls on a small screen, where its labels would be too small


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: Name in the legend.
        x: Horizontal positions, ascending.
        y: Values; those that are not finite are left out.
        colour: Number of the style sheet's series colour.
        markers: Draw a dot at each point.
        dashed: Draw a dashed line, for a level to compare with.
        low: Lower edge of a shaded band, one value a point; empty for none.
        high: Its upper edge.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    markers: bool = False
    dashed: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def points(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(y)]

    def band(self) -> list[tuple[float, float]]:
        """The corners of the shaded band: the upper edge forth, the lower one back."""
        edges = [
            (x, low, high)
            for x, low, high in zip(self.x, self.low, self.high, strict=False)
            if math.isfinite(low) and math.isfinite(high)
        ]
        return [(x, high) for x, _, high in edges] + [(x, low) for x, low, _ in reversed(edges)]


def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, width: int = 640, height: int = 260
) -> str:
    """Draws lines over a common horizontal axis.

    Args:
        series: The lines.
        title: Heading, also the text alternative.
        x_label: Name of the horizontal axis.
        width: Width of the drawing in its own units; the page scales it.
        height: Its height.

    Returns:
        An HTML `figure`; a remark instead of a drawing when there are no points.
    """
    caption = f"<figcaption>{html.escape(title)}{_legend(series)}</figcaption>"
    points = [point for line in series for point in (*line.points(), *line.band())]
    if not points:
        return f'<figure>{caption}<p class="empty">No values were recorded.</p></figure>'
    frame = _Frame.around(points, width, height)
    wide = ' class="wide"' if width > _NARROW else ""
    parts = [
        f'<svg{wide} viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">',
        *_grid(frame, x_label),
        *(_band(line, frame) for line in series),
        *(_line(line, frame) for line in series),
        "</svg>",
    ]
    return f"<figure>{caption}{''.join(parts)}</figure>"


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Maps values to positions in the drawing."""

    x_ticks: list[float]
    y_ticks: list[float]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int
    height: int

    @classmethod
    def around(cls, points: list[tuple[float, float]], width: int, height: int) -> "_Frame":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        y_ticks = ticks(min(ys), max(ys), 5)
        x_ticks = [x for x in ticks(min(xs), max(xs), 6) if min(xs) <= x <= max(xs)]
        x_range = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, max(xs) + 1)
        return cls(x_ticks, y_ticks, x_range, (y_ticks[0], y_ticks[-1]), width, height)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)


def ticks(low: float, high: float, number: int) -> list[float]:
    """Round values that enclose an interval.

    Args:
        low: Lower end.
        high: Upper end, at least `low`.
        number: About how many intervals.

    Returns:
        Ascending multiples of 1, 2 or 5 times a power of ten, at least two.
    """
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-280):
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_labels(values: list[float]) -> list[str]:
    """Labels of an axis: no more digits than tell neighbours apart.

    Returns:
        One label a position, all different.
    """
    step = values[1] - values[0]
    power = math.floor(math.log10(step) + 1e-9)
    largest = max(map(abs, values))
    if largest >= 1e-3:
        kind = f",.{max(-power, 0)}f"
    else:
        kind = f".{math.floor(math.log10(largest) + 1e-9) - power}e"
    return [
        f"{value:{kind}}".replace("e-0", "e-") if abs(value) > step / 2 else "0" for value in values
    ]


def _count_labels(values: list[float]) -> list[str]:
    """Labels of steps: short ones, where these tell neighbours apart."""
    labels = [count(value) for value in values]
    return labels if len(set(labels)) == len(labels) else tick_labels(values)


def _grid(frame: _Frame, x_label: str) -> list[str]:
    right, bottom = frame.width - _RIGHT, frame.height - _BOTTOM
    parts = []
    for value, label in zip(frame.y_ticks, tick_labels(frame.y_ticks), strict=True):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    for value, label in zip(frame.x_ticks, _count_labels(frame.x_ticks), strict=True):
        x = frame.x(value)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
        )
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="tick" x="{middle:.0f}" y="{frame.height - 4}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
    )
    return parts


def _band(series: Series, frame: _Frame) -> str:
    corners = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in series.band())
    return f'<polygon class="band f{series.colour}" points="{corners}"/>' if corners else ""


def _line(series: Series, frame: _Frame) -> str:
    points = [(frame.x(x), frame.y(y), x, y) for x, y in series.points()]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    dashes = " dashed" if series.dashed else ""
    parts = [f'<polyline class="line c{series.colour}{dashes}" points="{path}"/>']
    if series.markers or len(points) == 1:
        parts += [
            f'<circle class="dot c{series.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
            f"<title>{html.escape(series.label)}: {significant(value)} at {count(step)}</title>"
            "</circle>"
            for x, y, step, value in points
        ]
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    entries = (
        f'<span><i class="key b{line.colour}"></i>{html.escape(line.label)}</span>'
        for line in series
    )
    return f'<span class="legend">{"".join(entries)}</span>'
