"""`bin/etd_compare`: differently initialised students side by side."""

import sys

from etd_tf.cli.app import Command
from etd_tf.cli.flags import DryRun, FlagSet
from etd_tf.jobs.compare_types import CompareOptions

SUMMARY = """distils the same student from different initialisations and compares their cost.

Example:
  etd_compare --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=study --steps=2000 \\
    --losses=minilm,tinybert --students=6x384x12x1536 --arms=none,rand,impt --seeds=0,1

OUT/compare.html and OUT/compare.json tell, for every loss and student, how much compute each arm
saves against random initialisation. They are there after the first run and grow with every
further one. Run the same command again to continue; longer lists of losses, students, arms,
seeds and tasks add to what is there."""


def read_options(flag_set: FlagSet) -> CompareOptions:
    """Turns parsed flags into the job's settings."""
    return flag_set.read(CompareOptions)


def run(flag_set: FlagSet) -> None:
    """Runs the comparison that the flags describe and prints its table."""
    options = read_options(flag_set)
    from etd_tf.jobs.compare import run_comparison
    from etd_tf.jobs.compare_forecast import describe_forecast, forecast_comparison
    from etd_tf.jobs.compare_summary import describe_comparison

    if flag_set.read(DryRun).dry_run:
        sys.stdout.write(describe_forecast(forecast_comparison(options)))
        return
    comparison = run_comparison(options)
    sys.stdout.write(describe_comparison(comparison, options.base.output_dir))


COMMAND = Command("etd_compare", SUMMARY, (CompareOptions, DryRun), run)


if __name__ == "__main__":
    COMMAND.main()
