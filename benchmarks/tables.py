"""Prints the tables of docs/results.md from the files that etd_compare writes.

python benchmarks/tables.py benchmarks/results/*.json
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HEADER = (
    *("loss", "student", "arm", "seeds", "steps", "final held-out loss"),
    *("reaches the random arm's at", "zero-shot STS-B"),
)
PROBE = "sts-probe"


def rows(comparison: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yields a row for each cell, in the order of the file."""
    for cell in comparison["cells"]:
        loss = f"{cell['final_loss']:.4f}"
        if len(cell["seeds"]) > 1:
            loss += f" ({cell['final_loss_range'][0]:.4f} to {cell['final_loss_range'][1]:.4f})"
        yield (
            cell["loss"],
            cell["student"],
            comparison["labels"][cell["arm"]],
            ", ".join(map(str, cell["seeds"])),
            f"{cell['steps']:,}",
            loss,
            _reached(cell),
            _probe(cell),
        )


def _reached(cell: Mapping[str, Any]) -> str:
    if cell["arm"] == "none":
        return ""
    saved = cell["compute_saved_by_seed"].values()
    costs = ["never" if value is None else f"{100 * (1 - value):.1f} %" for value in saved]
    return ", ".join(costs)


def _probe(cell: Mapping[str, Any]) -> str:
    points = cell["downstream"].get(PROBE, {}).get("points", [])
    return ", ".join(f"{point['mean']:.3f}" for point in points)


def main() -> None:
    """Prints one table a file."""
    for name in sys.argv[1:]:
        comparison = json.loads(Path(name).read_text(encoding="utf-8"))
        print(f"\n{name}: {comparison['title']}\n")
        print("| " + " | ".join(HEADER) + " |")
        print("|" + "---|" * len(HEADER))
        for row in rows(comparison):
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
