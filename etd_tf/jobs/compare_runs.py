"""Reads what a comparison needs to know out of run directories of etd_distill."""

import contextlib
import dataclasses
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.distill import LAYOUT
from etd_tf.jobs.options import StudentSize
from etd_tf.losses import LOSSES, parse_sum
from etd_tf.reporting.comparison import ArmRun, as_number
from etd_tf.settings import settings_of
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.workspace import IDENTITY_FILE
from etd_tf.text.records import VALIDATION
from etd_tf.training.metrics_log import read_metrics

EARLIER_FILE = "arm.json"
"""What earlier versions wrote at the end of an arm, instead of a report."""

_LOSS_FLAGS = ("student_loss_weight", "masking_rate")  # what losses depend on, too
_SHOWN = 120  # characters of a value in a message
_SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")


def is_finished(folder: Path) -> bool:
    """Whether a directory holds a finished run, also one that an earlier version compared."""
    return any((folder / name).exists() for name in (LAYOUT.finished, EARLIER_FILE))


def load_run(folder: Path) -> ArmRun:
    """Reads a finished run.

    Raises:
        InputError: Its files are damaged.
    """
    report = folder / LAYOUT.finished
    path = report if report.exists() else folder / EARLIER_FILE
    values = read_json_object(path)
    with _damage_told(path):
        run = _of_report(values, folder) if path == report else _of_earlier(values)
        if not run.curve:
            raise ValueError("no held-out losses")
    return run


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({error!r}). Remove {path.parent} and make the run again."
        ) from error


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run directory of etd_distill that is compared.

    Attributes:
        folder: The directory.
        run: What was measured, without downstream scores.
        report: The content of its report.
        shared: What it must share with others, as JSON values by name.
    """

    folder: Path
    run: ArmRun
    report: dict[str, Any]
    shared: dict[str, Any]


def read_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Reads finished runs that are to be compared.

    Raises:
        InputError: One is not finished or has no held-out text; they were made with different
            teachers, held-out texts or settings of one loss; or two are the same arm.
    """
    runs = [_read(folder) for folder in folders]
    known: dict[str, tuple[Any, Path]] = {}
    arms: dict[str, Path] = {}
    for one in runs:
        for name, value in one.shared.items():
            expected, first = known.setdefault(name, (value, one.folder))
            if value != expected:
                raise InputError(
                    f"runs={one.folder} has another {name} than {first}: received "
                    f"{_shown(value)}, expected {_shown(expected)}. Compare runs that share it, "
                    "or make this one again as the other one was made."
                )
        run = one.run
        arm = f"{run.arm} of {run.loss} {run.student}, seed {run.seed}"
        if (first := arms.setdefault(arm, one.folder)) is not one.folder:
            raise InputError(
                f"runs={one.folder} and {first} are one arm twice: {arm}. Leave one out, or make "
                "it with another seed."
            )
    return runs


def _read(folder: Path) -> FinishedRun:
    path = folder / LAYOUT.finished
    if not path.exists():
        raise InputError(
            f"runs={folder} holds no finished run of etd_distill: there is no {path.name}. Name "
            "run directories; the command that began a run finishes it, too."
        )
    report, identity = read_json_object(path), read_json_object(folder / IDENTITY_FILE)
    with _damage_told(path):
        if "held-out sequences" not in report["data"]:
            raise InputError(
                f"runs={folder} was made without held-out text, by which runs are compared. Make "
                "it again with validation_corpus=FILES."
            )
        loss, flags, names = str(report["loss"]), report["flags"], [*_LOSS_FLAGS]
        for term in parse_sum(loss):
            names += [one.flag for one in settings_of(LOSSES[term])]
        shared = {
            "teacher": identity["teacher"],
            "held-out text": _held_out(identity["text"]),
            "number of held-out sequences": report["data"]["held-out sequences"],
            **{f"{name} of loss {loss}": flags.get(name, "") for name in names},
        }
    return FinishedRun(folder, load_run(folder), report, shared)


def _held_out(text: dict[str, Any]) -> Any:
    """What of a text's identity tells the held-out part; a share of it depends on all."""
    if "options" not in text:  # records, by split
        return text[VALIDATION]
    return {**text, "corpus": None} if text["validation_corpus"] else text


def _shown(value: Any) -> str:
    return textwrap.shorten(json.dumps(value), _SHOWN, placeholder="...")


def joint_facts(runs: Sequence[FinishedRun]) -> dict[str, str | int | float]:
    """Tells the text of runs, and their machines if there are several; all values that differ."""
    facts: dict[str, dict[Any, None]] = {}
    for one in runs:
        size = one.report["cost"]["training_sequences"] // one.run.steps
        own = {"batch size": size, "machines": one.report["machine"]["cpu"]}
        for name, value in {**one.report["data"], **own}.items():
            facts.setdefault(name, {})[value] = None
    if len(facts["machines"]) == 1:  # the page tells of it
        del facts["machines"]
    return {
        name: next(iter(values)) if len(values) == 1 else ", ".join(map(str, values))
        for name, values in facts.items()
    }


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
        neighbours=_neighbours(values.get("fidelity")),
    )


def _neighbours(fidelity: dict[str, Any] | None) -> float | None:
    return None if fidelity is None else float(fidelity["student"]["neighbours"])


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
