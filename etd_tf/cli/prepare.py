"""`bin/etd_prepare`: raw text to tokenised records, once."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from etd_tf.cli.app import Command, FlagSet, run_command
from etd_tf.errors import InputError, Interrupted

if TYPE_CHECKING:
    from etd_tf.text.records import RecordSet
    from etd_tf.tokenization.tokenizer import Tokenizer

SUMMARY = """turns raw text into sharded TFRecords for etd_distill --corpus=RECORDS.

Example:
  etd_prepare --corpus='wiki/*.txt.gz' --tokenizer=bert_dir --output_dir=records

Text is streamed: memory does not grow with the corpus. Run the same command again to continue
an interrupted preparation. The files do not depend on --runner, --workers or the time."""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("Text")
    flag_set.strings(
        "corpus",
        [],
        "UTF-8 text with a blank line between documents: files or globs (also .gz, and .jsonl or "
        ".json with a field 'text'), tfds:NAME (e.g. tfds:wikipedia/20230601.en) or stdlib:pydoc.",
    )
    flag_set.strings("validation_corpus", [], "Held-out text, instead of --held_out_fraction.")
    flag_set.number(
        "held_out_fraction",
        0.02,
        "Share of the text held out for validation, as whole documents chosen by content and "
        "--seed; 0 for none.",
        minimum=0.0,
    )
    flag_set.string(
        "tokenizer", None, "The model that will read the records, or its tokenizer's directory."
    )
    flag_set.group("Examples")
    flag_set.integer(
        "sequence_length", 128, "Tokens an example, [CLS] and [SEP] included.", minimum=3
    )
    flag_set.boolean(
        "packing",
        True,
        "Fill every example with running text, [SEP] between documents. --nopacking starts an "
        "example at each line and pads it.",
    )
    _define_run(flag_set)
    flag_set.required("tokenizer", "output_dir")


def _define_run(flag_set: FlagSet) -> None:
    flag_set.group("Run")
    flag_set.string("output_dir", None, "Directory for the records and manifest.json.")
    flag_set.integer("num_shards", None, "Training files; default: one per 32 MB.", minimum=1)
    flag_set.string(
        "runner",
        "local",
        "local, or an Apache Beam runner: direct (processes of this machine), flink, spark, "
        "dataflow, ...; needs etd_tf[beam]. The files are the same.",
    )
    flag_set.strings(
        "runner_options",
        [],
        "Beam's own options, e.g. --flink_master=HOST:8081,--parallelism=64.",
    )
    flag_set.integer(
        "workers",
        0,
        "Processes that tokenise, of --runner=local and direct; 0 for one a core.",
        minimum=0,
    )
    flag_set.boolean("overwrite", False, "Replace finished records in --output_dir.")
    flag_set.integer("seed", 0, "Seed of the held-out choice.", minimum=0)


def run(values: flags.FlagValues) -> None:
    """Prepares the text that the flags describe and prints what was made."""
    from etd_tf.text.prepare import RecordOptions

    prepare = _runner(values)
    options = RecordOptions(
        sequence_length=values.sequence_length,
        packing=values.packing,
        num_shards=values.num_shards,
        held_out_fraction=values.held_out_fraction,
        seed=values.seed,
    )
    tokenizer = _tokenizer(values.tokenizer)
    try:
        records = prepare(
            values.corpus,
            tokenizer,
            values.output_dir,
            options=options,
            validation_corpus=values.validation_corpus,
            overwrite=values.overwrite,
        )
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        raise Interrupted(
            signum, "Finished files are kept; run the same command again to continue."
        ) from stop
    sys.stdout.write(describe(records))


def _runner(values: flags.FlagValues) -> Callable[..., "RecordSet"]:
    """The function that prepares records, for what `--runner` names.

    Raises:
        InputError: The runner is not available, or a flag does not fit it.
    """
    if values.runner == "local":
        from etd_tf.text.prepare import prepare_records

        if values.runner_options:
            raise InputError("--runner_options is for Beam's runners; give --runner, too.")
        return functools.partial(prepare_records, workers=values.workers or os.cpu_count() or 1)
    from etd_tf.text.beam import beam_engine, prepare_on_beam

    engine = beam_engine(values.runner, values.runner_options, workers=values.workers)
    return functools.partial(prepare_on_beam, engine=engine)


def _tokenizer(name: str) -> "Tokenizer":
    from etd_tf.storage.sources import resolve_source
    from etd_tf.tokenization.tokenizer import Tokenizer

    return Tokenizer.from_directory(resolve_source(name))


def describe(records: "RecordSet") -> str:
    """Formats sizes by split, and the next command."""
    manifest = records.manifest
    lines = [f"{records.source}: sequences of {records.sequence_length} tokens"]
    for split, files in records.shards.items():
        lines.append(
            f"  {split:<10} {manifest['documents'][split]:>12,} documents  "
            f"{manifest['tokens'][split]:>15,} tokens  "
            f"{manifest['examples'][split]:>12,} examples  {len(files):>6,} files"
        )
    lines.append(f"Train with: etd_distill --corpus={records.source} ...")
    return "\n".join(lines) + "\n"


COMMAND = Command("etd_prepare", SUMMARY, define_flags, run, needs_tensorflow=False)


def main() -> None:
    """Entry point of `etd_prepare`."""
    sys.exit(run_command(COMMAND))


if __name__ == "__main__":
    main()
