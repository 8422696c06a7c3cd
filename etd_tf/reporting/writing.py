"""Writes a report into a run directory."""

import json
import math
from pathlib import Path
from typing import Any

from etd_tf.reporting.page import render
from etd_tf.reporting.report import RunReport
from etd_tf.storage.atomic import write_atomically


def write_report(run_dir: str | Path, report: RunReport) -> None:
    """Writes `report.html`, then `report.json`, which marks a run as finished."""
    run_dir = Path(run_dir)
    write_atomically(run_dir / "report.html", render(report))
    values = standard_json(report.to_dict())
    write_atomically(run_dir / "report.json", json.dumps(values, indent=2) + "\n")


def standard_json(value: Any) -> Any:
    """Replaces numbers that JSON does not know (NaN, infinity) by None, at any depth."""
    if isinstance(value, dict):
        return {key: standard_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [standard_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
