"""The part of a report on how faithful a student's sentence vectors are to its teacher's."""

from etd_tf.evaluation.fidelity import LOG_PREFIX, Fidelity
from etd_tf.reporting import numbers
from etd_tf.reporting.charts import Series, line_chart
from etd_tf.reporting.markup import Cell, section, table
from etd_tf.reporting.report import FidelityFacts, RunReport

_NEIGHBOURS = f"{LOG_PREFIX}neighbours"


def fidelity_card(report: RunReport) -> list[tuple[str, str, str]]:
    """The share of neighbours as a large number, as `sections.cards` takes it; empty for none."""
    facts = report.fidelity
    if facts is None:
        return []
    share = f"{100 * facts.student.neighbours:.0f}\u202f%"
    floor = f"{100 * facts.floor.neighbours:.0f}\u202f%"
    return [(share, "of the teacher's neighbours", f"found; {floor} without a Transformer")]


def fidelity_section(report: RunReport) -> str:
    """Shows the student beside the static floor: a table, and the share over the steps.

    Returns:
        A `section` element; empty where nothing was measured.
    """
    facts = report.fidelity
    if facts is None:
        return ""
    header = ("", "Neighbours found", "Rank correlation of cosines", "Mean cosine")
    rows = [
        _row("Student", facts.student),
        _row("The same before its training", facts.initial),
        _row("Static floor, without a Transformer", facts.floor),
    ]
    note = (
        f"{numbers.count(facts.student.num_texts)} held-out sequences, "
        f"{numbers.count(facts.student.num_pairs)} pairs of them; the teacher has 1 everywhere. "
        "The floor is the teacher's token table at the student's width, "
        f"made in {numbers.seconds(facts.floor_seconds)}."
    )
    if not facts.beats_floor:
        note += " The student does not beat it."
    body = table(header, rows) + _chart(report, facts)
    return section("Fidelity to the teacher", f'{body}<p class="note">{note}</p>')


def _row(name: str, found: Fidelity) -> list[Cell]:
    cosine = "" if found.cosine is None else f"{found.cosine:.3f}"
    return [name, f"{found.neighbours:.3f}", f"{found.spearman:.3f}", cosine]


def _chart(report: RunReport, facts: FidelityFacts) -> str:
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
