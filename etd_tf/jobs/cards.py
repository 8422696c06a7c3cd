"""The model cards of students: what a job knows about how it made them."""

from pathlib import Path

from etd_tf.checkpoints import Checkpoint, Measured, model_card
from etd_tf.extraction.starts import InitialStudent, Start
from etd_tf.jobs.distill_types import DistillOptions, DistillResult
from etd_tf.reporting import RunReport


def extracted_card(teacher: Checkpoint, initial: InitialStudent, start: Start) -> str:
    """The card of a student that was not distilled.

    Returns:
        The text of its `README.md`.
    """
    made = (_origin(start, initial), "Not distilled yet: its outputs are not the teacher's.")
    return model_card(initial.checkpoint, teacher=teacher, made=made)


def distilled_card(options: DistillOptions, result: DistillResult, report: RunReport) -> str:
    """The card of a finished student.

    Returns:
        The text of its `README.md`.
    """
    # The last part only: a directory's name is nobody else's business.
    corpus = [name if ":" in name else Path(name).name for name in options.corpus.corpus]
    cost = report.cost
    made = (
        _origin(options.extraction.start, result.initial),
        f"Distilled with the loss {options.loss_text}: {cost.training_steps:,} steps, "
        f"{cost.training_sequences:,} sequences of {report.sequence_length} tokens of "
        f"{', '.join(corpus)}.",
    )
    measured = [
        Measured(
            f"time of {one.student.batch_size} x {one.student.sequence_length} tokens, "
            f"{report.machine.cpu}",
            f"{one.student.median_ms:,.1f} ms",
            f"{one.teacher.median_ms:,.1f} ms",
        )
        for one in report.latency
    ]
    if report.held_out is not None:
        before, after = report.held_out
        measured.append(Measured("held-out loss", f"{after:.4g} (undistilled {before:.4g})"))
    return model_card(result.student, teacher=result.teacher, made=made, measured=measured)


def _origin(start: Start, initial: InitialStudent) -> str:
    """Where its weights come from."""
    if initial.plan is None:
        return f"Started from: {start.title}."
    layers = ", ".join(map(str, initial.plan.layers))
    return f"Extracted ({start.title}): layers {layers} of the teacher, counted from 1."
