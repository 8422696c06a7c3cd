"""`bin/etd_distill`: the main job."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from etd_tf.cli import flags as shared
from etd_tf.cli import training_flags
from etd_tf.cli.app import Command, FlagSet, run_command
from etd_tf.errors import InputError, Interrupted
from etd_tf.export import FORMATS
from etd_tf.losses import LOSSES

if TYPE_CHECKING:
    from etd_tf.jobs.distill_types import DistillOptions

SUMMARY = """extracts a small student from a BERT teacher and distils it on raw text.

Example:
  etd_distill --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=out \\
    --student_layers=6 --student_hidden=384 --student_heads=12 --student_intermediate=1536

OUT/student is then a Hugging Face directory and OUT/saved_model a TensorFlow Serving model;
OUT/report.html tells how it went. Run the same command again to continue an interrupted run."""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("Teacher")
    shared.define_teacher(flag_set)
    shared.define_student(flag_set)
    shared.define_extraction(flag_set)
    shared.define_corpus(flag_set)
    _define_loss(flag_set)
    training_flags.define_training(flag_set)
    flag_set.integer(
        "evaluate_every", 100, "Steps between held-out evaluations; 0: at the end.", minimum=0
    )
    flag_set.integer(
        "held_out_sequences", 512, "Held-out sequences behind each held-out loss.", minimum=1
    )
    training_flags.define_hardware(flag_set)
    shared.define_output(flag_set)
    flag_set.strings(
        "export",
        ["saved_model"],
        f"Formats written beside the Hugging Face directory: {', '.join(_export_formats())}; "
        "empty for none.",
    )
    flag_set.boolean(
        "dry_run", False, "Check everything, print sizes and the expected cost, and stop."
    )
    flag_set.required("teacher", "output_dir")


def _export_formats() -> list[str]:
    return [name for name, form in FORMATS.items() if form.optional]


def _define_loss(flag_set: FlagSet) -> None:
    flag_set.group("Distillation loss")
    flag_set.choice(
        "loss",
        "minilm",
        list(LOSSES),
        "; ".join(f"{name}: {loss.summary}" for name, loss in LOSSES.items()) + ".",
    )
    training_flags.define_loss_details(flag_set)


def read_options(values: flags.FlagValues) -> "DistillOptions":
    """Turns parsed flags into the job's settings.

    Raises:
        InputError: Two flags contradict each other, or a value is out of range.
    """
    from etd_tf.jobs.distill_types import DistillOptions

    unknown = sorted(set(values.export) - set(_export_formats()))
    if unknown:
        raise InputError(
            f"--export={','.join(unknown)} is unknown; choose from {', '.join(_export_formats())}. "
            "The Hugging Face directory is always written."
        )
    return DistillOptions(
        teacher=values.teacher,
        output_dir=Path(values.output_dir),
        student=shared.student_size(values),
        extraction=shared.extraction_options(values),
        corpus=shared.corpus_options(values),
        trainer=training_flags.trainer_options(
            values, seed=values.seed, evaluate_every=values.evaluate_every
        ),
        hardware=shared.hardware_options(values),
        loss=values.loss,
        loss_options=training_flags.loss_options(values, [values.loss])[values.loss],
        student_loss_weight=values.student_loss_weight,
        dropout=values.dropout,
        masking_rate=values.masking_rate,
        held_out_sequences=values.held_out_sequences,
        exports=tuple(values.export),
        overwrite=values.overwrite,
        settings=shared.settings(values),
    )


def run(values: flags.FlagValues) -> None:
    """Runs the job that the flags describe and prints what was made."""
    options = read_options(values)
    from etd_tf.jobs.costs import forecast_cost
    from etd_tf.jobs.distill import check_distillation, run_distillation
    from etd_tf.jobs.summary import describe_cost, describe_result

    if values.dry_run:
        sys.stdout.write(describe_cost(forecast_cost(options, *check_distillation(options))))
        return
    try:
        result = run_distillation(options)
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        way = "with --nooverwrite continues (--overwrite starts again)"
        told = str(stop) or "Finished stages are kept."
        command = f"The same command {way if values.overwrite else 'continues'}."
        raise Interrupted(signum, f"{told} {command}") from stop
    sys.stdout.write(describe_result(result))


COMMAND = Command("etd_distill", SUMMARY, define_flags, run)


def main() -> None:
    """Entry point of `etd_distill`."""
    sys.exit(run_command(COMMAND))


if __name__ == "__main__":
    main()
