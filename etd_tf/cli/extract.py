"""`bin/etd_extract`: a student cut out of its teacher, without distillation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from etd_tf.cli import flags as shared
from etd_tf.cli.app import Command, FlagSet, run_command

if TYPE_CHECKING:
    from etd_tf.jobs.extract import ExtractOptions

SUMMARY = """cuts a small student out of a BERT teacher, in seconds and without training.

Example:
  etd_extract --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=out \\
    --student_layers=6 --student_hidden=384 --student_heads=12 --student_intermediate=1536

OUT/student is a Hugging Face directory; OUT/scores.npz serves other student sizes of the same
teacher with --scores, and OUT/plan.json says which units were kept. The student is a starting
point: it wants distillation before use (etd_distill does both)."""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("Teacher")
    shared.define_teacher(flag_set)
    shared.define_student(flag_set)
    shared.define_extraction(flag_set)
    shared.define_corpus(flag_set)
    shared.define_output(flag_set)
    flag_set.required("teacher", "output_dir")


def read_options(values: flags.FlagValues) -> "ExtractOptions":
    """Turns parsed flags into the job's settings.

    Raises:
        InputError: `--scores` does not exist or goes with another `--extraction`.
    """
    from etd_tf.jobs.extract import ExtractOptions

    return ExtractOptions(
        teacher=values.teacher,
        output_dir=Path(values.output_dir),
        student=shared.student_size(values),
        extraction=shared.extraction_options(values),
        corpus=shared.corpus_options(values) if values.corpus else None,
        tokenizer=values.tokenizer,
        seed=values.seed,
        overwrite=values.overwrite,
        settings=shared.settings(values),
    )


def run(values: flags.FlagValues) -> None:
    """Runs the job that the flags describe and prints what was made."""
    options = read_options(values)
    from etd_tf.jobs.extract import describe_extraction, run_extraction

    sys.stdout.write(describe_extraction(run_extraction(options)))


COMMAND = Command("etd_extract", SUMMARY, define_flags, run)


def main() -> None:
    """Entry point of `etd_extract`."""
    sys.exit(run_command(COMMAND))


if __name__ == "__main__":
    main()
