"""`bin/etd_distill`: the main job."""

import signal
import sys

from etd_tf.cli.app import Command
from etd_tf.cli.flags import DryRun, FlagSet
from etd_tf.errors import FidelityError, Interrupted
from etd_tf.jobs.distill_types import DistillOptions

SUMMARY = """extracts a small student from a BERT teacher and distils it on raw text.

Example:
  etd_distill --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=out \\
    --student_layers=6 --student_hidden=384 --student_heads=12 --student_intermediate=1536

OUT/student is then a Hugging Face directory and OUT/saved_model a TensorFlow Serving model;
OUT/report.html tells how it went. Run the same command again to continue an interrupted run."""


def run(flag_set: FlagSet) -> None:
    """Runs the job that the flags describe and prints what was made."""
    options = flag_set.read(DistillOptions)
    from etd_tf.jobs.costs import forecast_cost
    from etd_tf.jobs.distill import check_distillation, run_distillation
    from etd_tf.jobs.summary import describe_cost, describe_result

    if flag_set.read(DryRun).dry_run:
        sys.stdout.write(describe_cost(forecast_cost(options, *check_distillation(options))))
        return
    try:
        result = run_distillation(options)
    except FidelityError as failure:
        sys.stdout.write(describe_result(failure.result))  # it is finished all the same
        raise
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        way = "with --nooverwrite continues (--overwrite starts again)"
        told = str(stop) or "Finished stages are kept."
        command = f"The same command {way if options.overwrite else 'continues'}."
        raise Interrupted(signum, f"{told} {command}") from stop
    sys.stdout.write(describe_result(result))


COMMAND = Command("etd_distill", SUMMARY, (DistillOptions, DryRun), run)


if __name__ == "__main__":
    COMMAND.main()
