"""Prints the tables of docs/results/ from the files that etd_compare writes.

python benchmarks/tables.py benchmarks/results/*.json
"""

import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEADER = (
    *("loss", "student", "arm", "seeds", "steps", "final held-out loss"),
    *("reaches the random arm's at", "reaches ETD-Rand's at", "reaches ETD-Impt's at"),
    "zero-shot STS-B",
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
            _reached_after(cell, comparison["cells"], "rand"),
            _reached_after(cell, comparison["cells"], "impt"),
            _probe(cell),
        )


def _reached(cell: Mapping[str, Any]) -> str:
    if cell["arm"] == "none":
        return ""
    saved = cell["compute_saved_by_seed"].values()
    costs = ["never" if value is None else f"{100 * (1 - value):.1f} %" for value in saved]
    return ", ".join(costs)


def _reached_after(
    cell: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], baseline: str
) -> str:
    """Share of the steps after which an arm is, on average, where a baseline's ends."""
    if not cell["arm"].startswith("impt") or cell["arm"] == baseline:
        return ""
    same = ("loss", "student", "seeds")
    for other in cells:
        if other["arm"] == baseline and all(other[key] == cell[key] for key in same):
            points = [point for point in cell["curve"] if point["mean"] is not None]
            steps = [p["step"] for p in points if p["mean"] <= other["final_loss"]]
            return f"{100 * min(steps) / cell['steps']:.1f} %" if steps else "never"
    return ""


def _probe(cell: Mapping[str, Any]) -> str:
    points = cell["downstream"].get(PROBE, {}).get("points", [])
    return ", ".join(f"{point['mean']:.3f}" for point in points)


def fine_tuned(comparison: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yields the header and a row for each arm and point at which it was fine-tuned, in per cent.

    The mean is that of GLUE's tasks, with each seed's in brackets where there are several.
    """
    cells = comparison["cells"]
    tasks = [task for task in cells[0]["downstream"] if task != PROBE]
    metrics = [f"{task} ({cells[0]['downstream'][task]['metric']})" for task in tasks]
    has_glue = any(task.startswith("glue/") for task in tasks)
    means = ("mean of GLUE",) if has_glue else ()
    yield ("loss", "student", "arm", "seeds", "at", *metrics, *means)
    for cell in cells:
        points = [cell["downstream"][task]["points"] for task in tasks]
        for at_one_step in zip(*points, strict=True):
            scores = {
                task: point["mean"] * (1 if task.startswith("squad/") else 100)
                for task, point in zip(tasks, at_one_step, strict=True)
            }
            yield (
                cell["loss"],
                cell["student"],
                comparison["labels"][cell["arm"]],
                ", ".join(map(str, cell["seeds"])),
                f"{100 * at_one_step[0]['step'] / cell['steps']:.0f} %",
                *(f"{score:.1f}" for score in scores.values()),
                *((_glue_mean(cell, str(at_one_step[0]["step"])),) if has_glue else ()),
            )


def _glue_mean(cell: Mapping[str, Any], step: str) -> str:
    tasks = [task for name, task in cell["downstream"].items() if name.startswith("glue/")]
    seeds = map(str, cell["seeds"])
    means = [
        statistics.fmean(100 * task["by_seed"][seed][step] for task in tasks) for seed in seeds
    ]
    each = f" ({', '.join(f'{mean:.1f}' for mean in means)})" if len(means) > 1 else ""
    return f"{statistics.fmean(means):.1f}{each}"


def print_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> None:
    """Prints Markdown."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in body:
        print("| " + " | ".join(row) + " |")


def main() -> None:
    """Prints the tables of each file."""
    for name in sys.argv[1:]:
        comparison = json.loads(Path(name).read_text(encoding="utf-8"))
        print(f"\n{name}: {comparison['title']}\n")
        print_table(HEADER, rows(comparison))
        if any(set(cell["downstream"]) - {PROBE} for cell in comparison["cells"]):
            print()
            header, *body = fine_tuned(comparison)
            print_table(header, body)


if __name__ == "__main__":
    main()
