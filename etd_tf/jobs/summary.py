"""What the commands print at the end, as text."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from etd_tf.checkpoints import Checkpoint
from etd_tf.jobs.costs import ComparisonForecast, CostForecast
from etd_tf.jobs.distill_types import DistillResult
from etd_tf.jobs.extract import STUDENT_DIRECTORY, ExtractResult
from etd_tf.reporting import RunReport, numbers
from etd_tf.reporting.comparison import Comparison
from etd_tf.reporting.comparison_page import PAGE_FILE, saved_text


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats cells as columns of equal width, two spaces apart."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def _lines(rows: Mapping[str, str], width: int) -> str:
    """One line a row: its name and what is said of it."""
    return "".join(f"  {name:<{width}} {text}\n" for name, text in rows.items())


def describe_result(result: DistillResult) -> str:
    """Tells what was made, the numbers and how to load it.

    Returns:
        Text of several lines; empty for a worker that wrote nothing.
    """
    report = result.report
    if report is None:
        return ""
    lines = ["", f"Made {report.student.source}", "", *_numbers(report), *_fidelity(report)]
    lines += ["", "Written:"]
    for export in report.exports:
        note = f"  ({export.note})" if export.note else ""
        lines.append(f"  {export.format:<12} {export.path}{note}")
    lines += [f"  {'report':<12} {result.run_dir / 'report.html'}", "", "Load it:"]
    pooled = result.student.pooling is not None
    lines += [f"  {line}" for line in loading_lines(report.student.source, pooled=pooled)]
    return "\n".join(lines) + "\n"


def loading_lines(directory: str, *, pooled: bool) -> tuple[str, ...]:
    """Lines of Python that load a student and use it; a pooled one ranks two texts."""
    load = f'student = etd_tf.load_checkpoint("{directory}")'
    if not pooled:
        ids = 'np.array([student.tokenizer.backend.encode("Hi!").ids])'
        return ("import etd_tf, numpy as np", load, f'student.encoder({{"token_ids": {ids}}})')
    return (
        f"import etd_tf; {load}",
        'texts = ["Lists are sorted in place.", "A file is read by open() and read()."]',
        'vectors = student.embed(["How do I open a file?", *texts], normalize=True)',
        "print(sorted(zip(vectors[1:] @ vectors[0], texts), reverse=True))  # the nearest first",
    )


def _numbers(report: RunReport) -> list[str]:
    teacher, student, cost = report.teacher, report.student, report.cost
    rows = [
        ("", "teacher", "student", "ratio"),
        (
            "layers x hidden",
            f"{teacher.num_layers} x {teacher.hidden_size}",
            f"{student.num_layers} x {student.hidden_size}",
            "",
        ),
        (
            "parameters",
            f"{teacher.parameters / 1e6:.1f} M",
            f"{student.parameters / 1e6:.1f} M",
            f"{report.compression:.1f}",
        ),
        (
            "FLOPs a sequence",
            f"{teacher.flops / 1e9:.2f} G",
            f"{student.flops / 1e9:.2f} G",
            f"{report.flops_ratio:.1f}",
        ),
    ]
    for latency in report.latency:
        rows.append(
            (
                f"latency, batch {latency.teacher.batch_size}",
                f"{latency.teacher.median_ms:.1f} ms",
                f"{latency.student.median_ms:.1f} ms",
                f"{latency.speedup:.1f}",
            )
        )
    lines = [f"  {name:<18} {a:>12} {b:>12} {c:>8}" for name, a, b, c in rows]
    if report.held_out is not None:
        first, last = report.held_out
        lines.append(f"  held-out loss      {first:.4f} after extraction, {last:.4f} distilled")
    lines.append(
        f"  distilled          {cost.training_steps:,} steps, {cost.tokens_per_second:,.0f} "
        f"tokens/s, {cost.total_seconds:,.0f} s with scoring"
    )
    return lines


def _fidelity(report: RunReport) -> list[str]:
    """The student's vectors beside the teacher's, and what its layers are worth."""
    facts = report.fidelity
    if facts is None:
        return []
    lines = [
        f"  {name:<18} {found.neighbours:.3f} of the teacher's neighbours, rank correlation of "
        f"cosines {found.spearman:.3f}"
        for name, found in (("fidelity", facts.student), ("static floor", facts.floor))
    ]
    if not facts.beats_floor:
        lines.append("  The student does not beat the static floor, which has no Transformer.")
    return lines


def describe_cost(cost: CostForecast) -> str:
    """Formats a forecast."""
    hours = cost.seconds / 3600
    time = f"{hours:,.1f} h" if hours >= 1 else f"{cost.seconds / 60:,.1f} min"
    rows = {
        "teacher": f"{cost.teacher.num_layers} x {cost.teacher.hidden_size}, "
        f"{cost.teacher_parameters / 1e6:.1f} M parameters",
        "student": f"{cost.student.num_layers} x {cost.student.hidden_size}, "
        f"{cost.student_parameters / 1e6:.1f} M parameters",
        "tokens": f"{cost.tokens:,}",
        **{
            stage: _share(flops, cost.training_flops)
            for stage, flops in {"scoring": 0, **cost.before}.items()
        },
        "distillation": f"{cost.training_flops:.3g} FLOPs",
        "memory": f"{cost.memory_bytes / 1e9:.2f} GB",
        "disk": f"{cost.disk_bytes / 1e9:.2f} GB",
        "expected time": f"{time} at {cost.peak_flops / 1e9:,.0f} GFLOP/s measured now (rough)",
    }
    return _lines(rows, 14)


def _share(flops: int, distillation: int) -> str:
    if not flops:
        return "none"
    return f"{flops:.3g} FLOPs ({flops / max(distillation, 1):.2%} of the distillation's)"


def describe_extraction(result: ExtractResult) -> str:
    """Tells what was made and how to go on."""
    teacher, initial = result.teacher, result.initial
    student, plan = initial.checkpoint, initial.plan
    rows = {"teacher": _sizes(teacher), "student": _sizes(student)}
    if plan is not None:
        rows["layers"] = ", ".join(map(str, plan.layers)) + f" of {teacher.config.num_layers}"
    if initial.scores is not None:
        scores = initial.scores
        rows["scores"] = f"{scores.metric}, {scores.num_examples} examples"
        if seconds := initial.seconds.get("scoring"):
            rows["scores"] += f", {seconds:,.1f} s"
    path = result.directory / STUDENT_DIRECTORY
    load = f"import etd_tf\nstudent = etd_tf.load_checkpoint({str(path)!r})\n"
    return f"{_lines(rows, 10)}\nWritten to {path}\n\n{load}"


def _sizes(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    return (
        f"{config.num_layers} layers x {config.hidden_size}, {config.num_heads} heads, "
        f"{config.intermediate_size} inner, {checkpoint.num_parameters() / 1e6:.1f} M parameters"
    )


def describe_comparison(comparison: Comparison, folder: Path) -> str:
    """Tells for every loss, student and arm the final loss and the compute saved."""
    rows = [["loss", "student", "arm", "held-out loss", "compute saved", "neighbours found"]]
    cells = comparison.to_dict()["cells"]
    for cell in cells:
        names = [cell["loss"], cell["student"], cell["arm"]]
        found = f"{cell['neighbours']:.3f}" if "neighbours" in cell else ""
        rows.append([*names, f"{cell['final_loss']:.4f}", saved_text(cell, cell["arm"]), found])
    if not any("neighbours" in cell for cell in cells):
        rows = [row[:-1] for row in rows]
    table = textwrap.indent(format_table(rows[0], rows[1:]), "  ")
    count = f"{len(comparison.runs)} of {comparison.planned} runs"
    return f"\n{table}\nReport of {count}: {folder / PAGE_FILE}\n"


def describe_forecast(forecast: ComparisonForecast) -> str:
    """Formats a forecast of a comparison."""
    finished = f" ({forecast.finished} finished)" if forecast.finished else ""
    rate = numbers.flops(forecast.peak_flops)
    rows = {
        "runs": f"{forecast.runs}{finished}",
        "distillation": f"{numbers.flops(forecast.flops)} with scoring",
        "held-out loss": numbers.flops(forecast.evaluation_flops),
        "students": f"{numbers.size(forecast.disk_bytes)} on disk",
        "expected time": f"{numbers.seconds(forecast.seconds)} at {rate}/s measured now (rough), "
        "without downstream tasks",
    }
    return _lines(rows, 14)
