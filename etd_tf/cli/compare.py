"""`bin/etd_compare`: differently initialised students side by side."""

import sys

from etd_tf.cli.app import Command
from etd_tf.cli.flags import DryRun, FlagSet
from etd_tf.jobs.compare_types import CompareOptions, RunsOptions
from etd_tf.storage.home import expand

SUMMARY = """distils the same student from different initialisations and compares their cost.

Example:
  etd_compare --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=study --steps=2000 \\
    --losses=minilm,tinybert --students=6x384x12x1536 --arms=none,rand,impt --seeds=0,1

OUT/compare.html and OUT/compare.json tell, for every loss and student, how much compute each arm
saves against random initialisation. They are there after the first run and grow with every
further one. Run the same command again to continue; longer lists of losses, students, arms,
seeds and tasks add to what is there.

  etd_compare --runs=run_a,run_b --output_dir=study

compares finished runs of etd_distill instead. They need one teacher and one held-out text."""


def run(flag_set: FlagSet) -> None:
    """Runs the comparison that the flags describe and prints its table."""
    if flag_set.values.runs:
        _compare_runs(flag_set)
        return
    options = flag_set.read(CompareOptions)
    from etd_tf.jobs.compare import forecast_comparison, run_comparison
    from etd_tf.jobs.summary import describe_comparison, describe_forecast

    if flag_set.read(DryRun).dry_run:
        sys.stdout.write(describe_forecast(forecast_comparison(options)))
        return
    comparison = run_comparison(options)
    sys.stdout.write(describe_comparison(comparison, options.base.output_dir))


def _compare_runs(flag_set: FlagSet) -> None:
    flag_set.refuse_beside("runs", "output_dir")
    options = flag_set.read(RunsOptions, output_dir=expand(flag_set.values.output_dir))
    from etd_tf.jobs.compare import compare_runs
    from etd_tf.jobs.summary import describe_comparison

    sys.stdout.write(describe_comparison(compare_runs(options), options.output_dir))


COMMAND = Command("etd_compare", SUMMARY, (RunsOptions, CompareOptions, DryRun), run)


if __name__ == "__main__":
    COMMAND.main()
