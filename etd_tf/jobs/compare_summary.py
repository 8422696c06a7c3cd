"""What `etd_compare` prints at the end, as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etd_tf.reporting.comparison import Comparison
from etd_tf.reporting.comparison_page import PAGE_FILE
from etd_tf.reporting.comparison_runs import BASELINE


def describe_comparison(comparison: Comparison, folder: Path) -> str:
    """Tells for every loss, student and arm the final loss and the compute saved."""
    cells = comparison.to_dict()["cells"]
    rows = [["loss", "student", "arm", "held-out loss", "compute saved", "neighbours found"]]
    for cell in cells:
        names = [cell["loss"], cell["student"], cell["arm"]]
        found = f"{cell['neighbours']:.3f}" if "neighbours" in cell else ""
        rows.append([*names, f"{cell['final_loss']:.4f}", _saved(cell), found])
    if not any("neighbours" in cell for cell in cells):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    count = f"{len(comparison.runs)} of {comparison.planned} runs"
    return "\n".join(["", *lines, "", f"Report of {count}: {folder / PAGE_FILE}"]) + "\n"


def _saved(cell: Mapping[str, Any]) -> str:
    if cell["compute_saved"] is not None:
        return f"{100 * cell['compute_saved']:.0f} %"
    if cell["arm"] == BASELINE:
        return ""
    return "not reached" if cell["compute_saved_by_seed"] else "no baseline"
