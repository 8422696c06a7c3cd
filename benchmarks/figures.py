"""Draws the figures of the README and of docs/ from the files that etd_compare writes.

python benchmarks/figures.py benchmarks/results/*.json --folder=docs/figures

Each figure is drawn twice, for light and for dark pages (NAME.svg, NAME-dark.svg). One SVG a
file has a panel for each loss and student: held-out loss over cost, in percent of what the
random arm costs. `readme.svg` has one panel of the main study. Needs matplotlib.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

# By arm: on a light page, on a dark one.
COLOURS = {
    "none": ("#6e7781", "#8b949e"),
    "rand": ("#c4631b", "#f0883e"),
    "impt": ("#1f6feb", "#58a6ff"),
    "impt-fold": ("#8fb8de", "#79a7d3"),
    "impt-compensate": ("#2da44e", "#3fb950"),
}
PAGES = {
    "": {"ink": "#1f2328", "quiet": "#8c959f"},
    "-dark": {"ink": "#e6edf3", "quiet": "#6e7681"},
}
SHOWN_FROM = 0.03  # of the random arm's cost: before it all arms fall steeply
BASELINE = "none"
CROWDED = 15  # percent: labels of earlier crossings stand to the left
LOWEST = 0.08  # of the README's figure: room for the labels below the curves
MAIN_STUDY = "study-main"
Cells = Sequence[Mapping[str, Any]]


def panels(cells: Cells) -> dict[str, list[Mapping[str, Any]]]:
    """Cells with a random arm to compare with, by the panel's title."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        found.setdefault(f"{cell['loss']}, {cell['student']}", []).append(cell)
    return {k: v for k, v in found.items() if any(c["arm"] == BASELINE for c in v)}


def points(cell: Mapping[str, Any], unit: float) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Cost in percent of `unit` FLOPs, and the losses there."""
    for point in cell["curve"]:
        if point["mean"] is not None and point["flops"] >= SHOWN_FROM * unit:
            yield 100 * point["flops"] / unit, point


def draw(axes: Any, title: str, cells: Cells, labels: Mapping[str, str], page: str) -> None:
    """Draws one panel."""
    dark, quiet = page == "-dark", PAGES[page]["quiet"]
    baseline = next(cell for cell in cells if cell["arm"] == BASELINE)
    for cell in cells:
        found = list(points(cell, baseline["flops"]))
        costs = [cost for cost, _ in found]
        colour = COLOURS.get(cell["arm"], (quiet, quiet))[dark]
        axes.plot(costs, [p["mean"] for _, p in found], color=colour, label=labels[cell["arm"]])
        if len(cell["seeds"]) > 1:
            low, high = ([p[edge] for _, p in found] for edge in ("low", "high"))
            axes.fill_between(costs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(baseline["final_loss"], color=COLOURS[BASELINE][dark], linestyle=":", linewidth=1)
    axes.set(
        title=title,
        xlabel="compute, % of the random start's run",
        ylabel="held-out loss",
        xlim=(0, 101),
    )
    axes.spines[["top", "right"]].set_visible(False)


def mark_crossings(axes: Any, cells: Cells, page: str) -> None:
    """Names the cost at which each arm is as good as the random start's end."""
    dark = page == "-dark"
    baseline = next(cell for cell in cells if cell["arm"] == BASELINE)
    for cell in cells:
        saved = cell["compute_saved"]
        if cell["arm"] == BASELINE or saved is None:
            continue
        colour, cost = COLOURS[cell["arm"]][dark], 100 * (1 - saved)
        axes.plot([cost], [baseline["final_loss"]], "o", color=colour, markersize=5)
        axes.vlines(cost, LOWEST, baseline["final_loss"], color=colour, linestyle=":", linewidth=1)
        axes.annotate(
            f"{cost:.0f} %",
            (cost, LOWEST),
            xytext=(-3 if cost < CROWDED else 3, 4),
            ha="right" if cost < CROWDED else "left",
            textcoords="offset points",
            color=colour,
            fontweight="bold",
        )
    axes.set_ylim(bottom=LOWEST)


def draw_all(comparison: Mapping[str, Any], stem: str, folder: Path) -> None:
    """Draws a file's figures, for both kinds of pages."""
    found = panels(comparison["cells"])
    if not found:
        print(f"{stem}: no random arm to compare with")
        return
    for page, colours in PAGES.items():
        ink = dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
            colours["ink"],
        )
        with pyplot.rc_context(ink):
            columns = min(2, len(found))
            figure, grid = pyplot.subplots(
                *(-(-len(found) // columns), columns),
                figsize=(4.4 * columns, 3.1 * -(-len(found) // columns)),
                squeeze=False,
            )
            for axes in grid.flat:
                axes.set_visible(False)
            for axes, (title, cells) in zip(grid.flat, found.items(), strict=False):
                axes.set_visible(True)
                draw(axes, title, cells, comparison["labels"], page)
            grid.flat[0].legend(frameon=False)
            save(figure, folder / f"{stem}{page}.svg")
            if stem == MAIN_STUDY:
                figure, axes = pyplot.subplots(figsize=(7.2, 3.3))
                cells = next(iter(found.values()))
                draw(axes, "", cells, comparison["labels"], page)
                mark_crossings(axes, cells, page)
                axes.legend(frameon=False)
                save(figure, folder / f"readme{page}.svg")


def save(figure: Any, target: Path) -> None:
    """Writes a figure on no background."""
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None}, transparent=True)
    pyplot.close(figure)
    print(target)


def main() -> None:
    """Draws the figures of each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"))
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    pyplot.rcParams.update({"svg.hashsalt": "etd_tf", "font.size": 9, "axes.titlesize": 9})
    for path in flags.files:
        draw_all(json.loads(path.read_text(encoding="utf-8")), path.stem, flags.folder)


if __name__ == "__main__":
    main()
