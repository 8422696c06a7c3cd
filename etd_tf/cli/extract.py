"""`bin/etd_extract`: a student cut out of its teacher, without distillation."""

import sys

from etd_tf.cli.app import Command
from etd_tf.cli.flags import FlagSet
from etd_tf.jobs.options import CorpusOptions, ExtractOptions

SUMMARY = """cuts a small student out of a BERT teacher, in seconds and without training.

Example:
  etd_extract --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=out \\
    --student_layers=6 --student_hidden=384 --student_heads=12 --student_intermediate=1536

OUT/student is a Hugging Face directory; OUT/scores.npz serves other student sizes of the same
teacher with --scores, and OUT/plan.json says which units were kept. The student is a starting
point: it wants distillation before use (etd_distill does both)."""


def read_options(flag_set: FlagSet) -> ExtractOptions:
    """Turns parsed flags into the job's settings."""
    return flag_set.read(
        ExtractOptions,
        corpus=flag_set.read(CorpusOptions) if flag_set.values.corpus else None,
        tokenizer=flag_set.values.tokenizer,  # of the student where no text is read
    )


def run(flag_set: FlagSet) -> None:
    """Runs the job that the flags describe and prints what was made."""
    options = read_options(flag_set)
    from etd_tf.jobs.extract import run_extraction
    from etd_tf.jobs.summary import describe_extraction

    sys.stdout.write(describe_extraction(run_extraction(options)))


COMMAND = Command("etd_extract", SUMMARY, (ExtractOptions,), run)


if __name__ == "__main__":
    COMMAND.main()
