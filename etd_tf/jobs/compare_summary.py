"""What `etd_compare` prints at the end, as text."""

from pathlib import Path

from etd_tf.reporting.comparison import ArmSummary, Comparison, summarize
from etd_tf.reporting.comparison_page import PAGE_FILE
from etd_tf.reporting.comparison_runs import BASELINE


def describe_comparison(comparison: Comparison, folder: Path) -> str:
    """Tells for every loss, student and arm the final loss and the compute saved.

    Args:
        comparison: The comparison.
        folder: Its directory.

    Returns:
        Text of several lines.
    """
    summaries = summarize(comparison.runs)
    rows = [("loss", "student", "arm", "held-out loss", "compute saved")]
    for summary in summaries:
        first = summary.first
        rows.append(
            (
                first.loss,
                first.student,
                first.arm,
                f"{summary.final_loss.mean:.4f}",
                _saved(summary),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    count = f"{len(comparison.runs)} of {comparison.planned} runs"
    return "\n".join(["", *lines, "", f"Report of {count}: {folder / PAGE_FILE}"]) + "\n"


def _saved(summary: ArmSummary) -> str:
    spread = summary.saving.spread
    if spread is not None:
        return f"{100 * spread.mean:.0f} %"
    if summary.first.arm == BASELINE:
        return ""
    return "not reached" if summary.saving.by_seed else "no baseline"
