"""What the commands print at the end, as text."""

from etd_tf.jobs.costs import CostForecast
from etd_tf.jobs.distill_types import DistillResult
from etd_tf.reporting import RunReport


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
    lines += [f"  {line}" for line in loading_lines(report.student.source)]
    return "\n".join(lines) + "\n"


def loading_lines(directory: str) -> tuple[str, str, str]:
    """Three lines of Python that load a student."""
    return (
        "import etd_tf, numpy as np",
        f'student = etd_tf.load_checkpoint("{directory}")',
        'student.encoder({"token_ids": np.array([student.tokenizer.backend.encode("Hi!").ids])})',
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
    return "".join(f"  {name:<14} {value}\n" for name, value in rows.items())


def _share(flops: int, distillation: int) -> str:
    if not flops:
        return "none"
    return f"{flops:.3g} FLOPs ({flops / max(distillation, 1):.2%} of the distillation's)"
