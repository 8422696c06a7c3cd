"""Reads what a comparison needs to know out of run directories of etd_distill."""

from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.distill import LAYOUT
from etd_tf.jobs.options import StudentSize
from etd_tf.reporting.comparison_runs import ArmRun, as_number
from etd_tf.storage.json_files import read_json_object
from etd_tf.training.metrics_log import read_metrics

EARLIER_FILE = "arm.json"
"""What earlier versions wrote at the end of an arm, instead of a report."""

_SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")


def is_finished(folder: Path) -> bool:
    """Whether a directory holds a finished run, also one that an earlier version compared."""
    return any((folder / name).exists() for name in (LAYOUT.finished, EARLIER_FILE))


def load_run(folder: Path) -> ArmRun:
    """Reads a finished run.

    Args:
        folder: Its directory.

    Returns:
        The run without downstream scores.

    Raises:
        InputError: Its files are damaged.
    """
    report = folder / LAYOUT.finished
    path = report if report.exists() else folder / EARLIER_FILE
    values = read_json_object(path)
    try:
        run = _of_report(values, folder) if path == report else _of_earlier(values)
        if not run.curve:
            raise ValueError("no held-out losses")
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({error!r}). Remove {folder} to run it again."
        ) from error
    return run


def _of_report(values: dict[str, Any], folder: Path) -> ArmRun:
    cost, flags = values["cost"], values["flags"]
    steps, training = int(cost["training_steps"]), int(cost["training_flops"])
    return ArmRun(
        loss=str(values["loss"]),
        student=str(StudentSize(*(values["student"][name] for name in _SIZES))),
        arm=_arm(flags, values["extraction"]["scores"]),
        seed=int(flags["seed"]),
        steps=steps,
        step_flops=training // steps,
        scoring_flops=int(cost["total_flops"]) - training,
        curve=tuple(
            (line["step"], as_number(line.get("loss")))
            for line in read_metrics(folder / "metrics.jsonl")
            if line.get("split") == "validation"
        ),
        seconds=float(cost["total_seconds"]),
    )


def _arm(flags: dict[str, str], scores: str) -> str:
    """The start, with the metric of the scores where it is not the start's usual one."""
    compensate = flags.get("compensate") == "true"
    start = ExtractionOptions(extraction=flags["extraction"], compensate=compensate).start
    metric = scores.partition(",")[0]
    is_usual = metric in ("", start.metric(ExtractionOptions()))
    return start.name if is_usual else f"{start.name}-{metric}"


def _of_earlier(values: dict[str, Any]) -> ArmRun:
    counts = ("seed", "steps", "step_flops", "scoring_flops")
    fields: dict[str, Any] = {name: int(values[name]) for name in counts}
    fields |= {name: str(values[name]) for name in ("loss", "student", "arm")}
    return ArmRun(
        **fields,
        curve=tuple((int(step), as_number(loss)) for step, loss in values["curve"]),
        seconds=float(values["seconds"]),
    )
