"""The report as one HTML page that needs nothing else."""

import html
from collections.abc import Sequence
from pathlib import Path

from etd_tf.evaluation.fidelity import LOG_PREFIX, Fidelity
from etd_tf.export import FORMATS
from etd_tf.reporting import numbers
from etd_tf.reporting.charts import Series, line_chart
from etd_tf.reporting.report import Curve, FidelityFacts, ModelFacts, RunReport
from etd_tf.reporting.sections import (
    Cell,
    cards,
    document,
    measured_on,
    run_again,
    section,
    table,
)
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.json_files import write_json

_NOISY = 1.5  # 95th percentile over median of passes that something else disturbed
_NEIGHBOURS = f"{LOG_PREFIX}neighbours"
_SPLITS = {"train": "training", "validation": "held-out"}


def write_report(run_dir: str | Path, report: RunReport) -> None:
    """Writes `report.html`, then `report.json`, which marks a run as finished."""
    run_dir = Path(run_dir)
    write_atomically(run_dir / "report.html", render(report))
    write_json(run_dir / "report.json", report.to_dict())


def render(report: RunReport) -> str:
    """Renders a report.

    Returns:
        A complete HTML document without scripts and external resources.
    """
    sections = (
        cards(_cards(report)),
        _sizes(report),
        _latency(report),
        _fidelity(report),
        _curves(report),
        _cost(report),
        _usage(report),
        _checks(report),
        measured_on(report.machine, report.data),
        run_again(report.command, report.flags),
    )
    created = report.created.replace("T", " ")
    subtitle = f"{report.extraction.method}, {report.loss} loss \u00b7 {created}"
    return document(report.title, subtitle, sections)


def _cards(report: RunReport) -> list[tuple[str, str, str]]:
    """The run in a few large numbers: number, what it is, where it comes from."""
    teacher, student, cost = report.teacher, report.student, report.cost
    parameters = f"{numbers.count(teacher.parameters)} \u2192 {numbers.count(student.parameters)}"
    items = [(numbers.ratio(report.compression), "smaller", f"{parameters} parameters")]
    if report.latency:
        pair = report.latency[0]
        before, after = (numbers.significant(s.median_ms, 3) for s in (pair.teacher, pair.student))
        how = f"{before} \u2192 {after} ms, measured, batch {pair.teacher.batch_size}"
        items.append((numbers.ratio(pair.speedup), "faster", how))
    if report.held_out is not None:
        first, last = report.held_out
        change = 100 * (last - first) / first if first else 0.0
        shown = f"{change:+.0f}\u202f%".replace("-", "\u2212")
        values = f"{numbers.significant(first)} at the start \u2192 {numbers.significant(last)}"
        items.append((shown, "held-out loss", values))
    items += _fidelity_card(report)
    amount = f"{numbers.flops(cost.total_flops)}, {numbers.count(cost.training_steps)} steps"
    return [*items, (numbers.seconds(cost.total_seconds), "of work", amount)]


def _sizes(report: RunReport) -> str:
    teacher, student = report.teacher, report.student
    rows = [
        _size_row("Layers", "num_layers", teacher, student),
        _size_row("Hidden size", "hidden_size", teacher, student),
        _size_row("Attention heads", "num_heads", teacher, student),
        _size_row("Feed-forward size", "intermediate_size", teacher, student),
        _size_row("Parameters", "parameters", teacher, student),
        _size_row("\u2003of these in layers", "layer_parameters", teacher, student),
        _size_row(f"FLOPs, {report.sequence_length} tokens", "flops", teacher, student),
        _size_row("Weights as float32", "bytes_on_disk", teacher, student),
    ]
    sizes = table(("", "Teacher", "Student", "Ratio"), rows)
    source = html.escape(teacher.source)
    extraction = report.extraction
    notes = [f"Teacher: <code>{source}</code>.", f"Student: {html.escape(extraction.method)}"]
    if extraction.teacher_layers:
        layers = ", ".join(map(str, extraction.teacher_layers))
        notes[-1] += f" from teacher layers {layers} (of {teacher.num_layers})"
    if extraction.scores:
        notes[-1] += (
            f"; units ranked by {html.escape(extraction.scores)} on "
            f"{numbers.count(extraction.scored_sequences)} sequences"
        )
    return section("Teacher and student", sizes + f'<p class="note">{" ".join(notes)}.</p>')


def _size_row(label: str, field: str, teacher: ModelFacts, student: ModelFacts) -> list[Cell]:
    show = {"flops": numbers.flops, "bytes_on_disk": numbers.size}.get(field, numbers.count)
    big, small = getattr(teacher, field), getattr(student, field)
    return [label, show(big), show(small), numbers.ratio(big / small) if big != small else "same"]


def _latency(report: RunReport) -> str:
    if not report.latency:
        return ""
    rows: list[list[Cell]] = [
        [
            f"{pair.teacher.batch_size} \u00d7 {pair.teacher.sequence_length}",
            *(
                f"{numbers.significant(s.median_ms, 3)} ({numbers.significant(s.p95_ms, 3)})"
                for s in (pair.teacher, pair.student)
            ),
            *(numbers.significant(s.sequences_per_second, 3) for s in (pair.teacher, pair.student)),
            numbers.ratio(pair.speedup),
        ]
        for pair in report.latency
    ]
    header = (
        "Batch \u00d7 tokens",
        "Teacher ms",
        "Student ms",
        "Teacher seq/s",
        "Student seq/s",
        "Speed-up",
    )
    repeats = report.latency[0].teacher.repeats
    note = (
        f"Median (95th percentile) of {repeats} forward passes of each encoder, compiled, without "
        "tokenisation and heads, teacher and student in turns."
    )
    both = [stats for pair in report.latency for stats in (pair.teacher, pair.student)]
    if any(stats.p95_ms > _NOISY * stats.median_ms for stats in both):
        note += " A 95th percentile far above its median says that other work ran on the machine."
    return section("Measured latency", table(header, rows) + f'<p class="note">{note}</p>')


def _fidelity_card(report: RunReport) -> list[tuple[str, str, str]]:
    """The share of neighbours that are found as a large number."""
    facts = report.fidelity
    if facts is None:
        return []
    share = f"{100 * facts.student.neighbours:.0f}\u202f%"
    floor = f"{100 * facts.floor.neighbours:.0f}\u202f%"
    return [(share, "of the teacher's neighbours", f"found; {floor} without a Transformer")]


def _fidelity(report: RunReport) -> str:
    """The student beside the static floor: a table, and the share over the steps."""
    facts = report.fidelity
    if facts is None:
        return ""
    header = ("", "Neighbours found", "Rank correlation of cosines", "Mean cosine")
    rows = [
        _fidelity_row("Student", facts.student),
        _fidelity_row("The same before its training", facts.initial),
        _fidelity_row("Static floor, without a Transformer", facts.floor),
    ]
    note = (
        f"{numbers.count(facts.student.num_texts)} held-out sequences, "
        f"{numbers.count(facts.student.num_pairs)} pairs of them; the teacher has 1 everywhere. "
        "The floor is the teacher's token table at the student's width, "
        f"made in {numbers.seconds(facts.floor_seconds)}."
    )
    if not facts.beats_floor:
        note += " The student does not beat it."
    body = table(header, rows) + _fidelity_chart(report, facts)
    return section("Fidelity to the teacher", f'{body}<p class="note">{note}</p>')


def _fidelity_row(name: str, found: Fidelity) -> list[Cell]:
    cosine = "" if found.cosine is None else f"{found.cosine:.3f}"
    return [name, f"{found.neighbours:.3f}", f"{found.spearman:.3f}", cosine]


def _fidelity_chart(report: RunReport, facts: FidelityFacts) -> str:
    """The share of neighbours over the steps, with the floor as a level."""
    for curve in report.curves:
        if curve.name == _NEIGHBOURS:
            found = {0: facts.initial.neighbours} | dict(
                zip(curve.steps, curve.values, strict=True)
            )
            steps, floor = tuple(found), facts.floor.neighbours
            ends = (steps[0], steps[-1])
            level = Series("static floor", ends, (floor, floor), colour=1, dashed=True)
            student = Series("student", steps, tuple(found.values()), markers=True)
            title = "Share of the teacher's neighbours that are found"
            return line_chart((student, level), title=title, x_label="step", width=860, height=220)
    return ""


def _curves(report: RunReport) -> str:
    curves: dict[str, list[Curve]] = {}
    for curve in sorted(report.curves, key=lambda curve: curve.split):  # training comes first
        if not curve.name.startswith(LOG_PREFIX):  # these have a section of their own
            curves.setdefault(curve.name, []).append(curve)
    loss = curves.pop("loss", [])
    # With a single term in use several names carry the same numbers as the loss.
    names = [name for name in dict.fromkeys(c.name for c in report.curves) if name in curves]
    small = [
        _chart(curves[name], name, width=420, height=200)
        for name in names
        if [c.values for c in curves[name]] != [c.values for c in loss]
        and (name != "skipped_steps" or any(any(c.values) for c in curves[name]))
    ]
    if not loss and not small:
        return ""
    large = _chart(loss, "loss", width=860, height=290) if loss else ""
    return section("Training", f'{large}<div class="grid2">{"".join(small)}</div>')


def _chart(curves: Sequence[Curve], name: str, *, width: int, height: int) -> str:
    series = [
        Series(
            _SPLITS.get(curve.split, curve.split),
            curve.steps,
            curve.values,
            colour=1 if curve.split == "validation" else 0,
            markers=curve.split == "validation",
        )
        for curve in curves
    ]
    title = name.replace("_", " ").capitalize()
    return line_chart(series, title=title, x_label="step", width=width, height=height)


def _cost(report: RunReport) -> str:
    cost = report.cost
    stages = {stage.name: stage for stage in cost.before}
    scoring = stages.pop("scoring", None)
    rows: list[list[Cell]] = [
        [
            "Importance scores",
            numbers.flops(scoring.flops) if scoring else "none",
            numbers.seconds(scoring.seconds) if scoring else "",
            f"{numbers.count(report.extraction.scored_sequences)} sequences",
        ]
    ]
    for name, stage in stages.items():
        shown = numbers.flops(stage.flops), numbers.seconds(stage.seconds)
        rows.append([name.capitalize(), *shown, ""])
    rows += [
        [
            "Distillation",
            numbers.flops(cost.training_flops),
            numbers.seconds(cost.training_seconds),
            f"{numbers.count(cost.training_steps)} steps, "
            f"{numbers.count(cost.training_sequences)} sequences, "
            f"{numbers.count(cost.tokens_per_second)} tokens/s",
        ],
        ["Total", numbers.flops(cost.total_flops), numbers.seconds(cost.total_seconds), ""],
    ]
    note = (
        "FLOPs are counted, not measured: a multiply-add is 2, a training sequence is a teacher "
        "forward plus three student forwards, a scored one three teacher forwards and the "
        "masked-LM head where the score needs it (activations: one forward)."
    )
    costs = table(("", "Operations", "Wall time", "Amount"), rows, text_columns=(3,))
    return section("Cost", costs + f'<p class="note">{note}</p>')


def _usage(report: RunReport) -> str:
    """Code that loads each export, and a table of them."""
    if not report.exports:
        return ""
    rows: list[list[Cell]] = [
        [
            export.format,
            export.path,
            numbers.size(export.bytes_on_disk),
            "" if export.max_difference is None else numbers.significant(export.max_difference, 2),
            export.note,
        ]
        for export in report.exports
    ]
    header = ("Format", "Path", "Size", "Largest difference", "Note")
    known = [export for export in report.exports if export.format in FORMATS]
    code = "\n\n".join(filter(None, (FORMATS[one.format]().usage(one) for one in known)))
    return section(
        "Use the student",
        f"<pre><code>{html.escape(code)}</code></pre>" + table(header, rows, text_columns=(1, 4)),
    )


def _checks(report: RunReport) -> str:
    if not report.checks:
        return ""
    rows: list[list[Cell]] = [
        [
            check.name,
            numbers.significant(check.value, 2),
            numbers.significant(check.limit, 2),
            "passed" if check.passed else "FAILED",
        ]
        for check in report.checks
    ]
    return section("Self-checks", table(("Check", "Error", "Allowed", "Result"), rows))
