"""`bin/etd_transfer`: a small copy of a fine-tuned model."""

import dataclasses
import sys

from etd_tf.cli.app import Command
from etd_tf.cli.flags import FlagSet, model_source
from etd_tf.jobs.task_options import TransferJobOptions

SUMMARY = """distils a fine-tuned model into a small one on the texts of its task.

Example:
  etd_evaluate --model=bert_dir --task=classify --train=reviews.csv --output_dir=big
  etd_transfer --teacher=big/model --student_layers=3 --task=classify --train=reviews.csv \\
    --output_dir=small

The student is cut out of the teacher, or --student names one. It imitates the teacher's states,
then its logits, then the labels. Which stage is the last
is chosen on a held-out tenth of train, never on dev. Run the same command again to continue an
interrupted run."""


def run(flag_set: FlagSet) -> None:
    """Runs the stages that the flags describe and prints both models' scores."""
    options = flag_set.read(TransferJobOptions)
    if options.student is not None:
        options = dataclasses.replace(options, student=model_source(options.student))
    from etd_tf.jobs.evaluation_summary import describe_transfer
    from etd_tf.jobs.transfer import run_transfer

    sys.stdout.write(describe_transfer(options.find_task(), run_transfer(options)))


COMMAND = Command("etd_transfer", SUMMARY, (TransferJobOptions,), run)


if __name__ == "__main__":
    COMMAND.main()
