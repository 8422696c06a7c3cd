"""Draws the figures of docs/results.md from the files that etd_compare writes.

python benchmarks/figures.py benchmarks/results/*.json --folder=docs/figures

One SVG a file, one panel for each loss and student: held-out loss over cost, in percent of
what the random arm costs. Needs matplotlib.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

COLOURS = {
    "none": "#777777",
    "rand": "#d98032",
    "impt": "#2f6fb0",
    "impt-fold": "#8fb8de",
    "impt-compensate": "#3a9a5b",
}
SHOWN_FROM = 0.03  # of the random arm's cost: before it all arms fall steeply
BASELINE = "none"
Cells = Sequence[Mapping[str, Any]]


def panels(cells: Cells) -> dict[str, list[Mapping[str, Any]]]:
    """Cells with a random arm to compare with, by the panel's title."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        found.setdefault(f"{cell['loss']}, {cell['student']}", []).append(cell)
    return {k: v for k, v in found.items() if any(c["arm"] == BASELINE for c in v)}


def draw(axes: Any, title: str, cells: Cells, labels: Mapping[str, str]) -> None:
    """Draws one panel."""
    baseline = next(cell for cell in cells if cell["arm"] == BASELINE)
    for cell in cells:
        points = [
            (100 * point["flops"] / baseline["flops"], point)
            for point in cell["curve"]
            if point["mean"] is not None and point["flops"] >= SHOWN_FROM * baseline["flops"]
        ]
        costs = [cost for cost, _ in points]
        colour = COLOURS.get(cell["arm"], "black")
        axes.plot(costs, [p["mean"] for _, p in points], color=colour, label=labels[cell["arm"]])
        if len(cell["seeds"]) > 1:
            low, high = ([p[edge] for _, p in points] for edge in ("low", "high"))
            axes.fill_between(costs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(baseline["final_loss"], color=COLOURS[BASELINE], linestyle=":", linewidth=1)
    axes.axvline(30, color="#bbbbbb", linestyle="--", linewidth=1)
    axes.set(
        title=title, xlabel="cost, % of the random arm's", ylabel="held-out loss", xlim=(0, 101)
    )
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draws one figure a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"))
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    pyplot.rcParams.update({"svg.hashsalt": "etd_tf", "font.size": 9, "axes.titlesize": 9})
    for path in flags.files:
        comparison = json.loads(path.read_text(encoding="utf-8"))
        found = panels(comparison["cells"])
        if not found:
            print(f"{path}: no random arm to compare with")
            continue
        columns = min(2, len(found))
        rows = -(-len(found) // columns)
        figure, grid = pyplot.subplots(
            rows, columns, figsize=(4.4 * columns, 3.1 * rows), squeeze=False
        )
        for axes, (title, cells) in zip(grid.flat, found.items(), strict=False):
            draw(axes, title, cells, comparison["labels"])
        for axes in list(grid.flat)[len(found) :]:
            axes.set_visible(False)
        grid.flat[0].legend(frameon=False)
        figure.tight_layout()
        target = flags.folder / f"{path.stem}.svg"
        figure.savefig(target, metadata={"Date": None})
        print(target)


if __name__ == "__main__":
    main()
