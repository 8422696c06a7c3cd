"""`bin/etd_prepare`: raw text to tokenised records, once."""

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from etd_tf.cli.app import Command
from etd_tf.cli.flags import FlagSet
from etd_tf.errors import Interrupted
from etd_tf.settings import MISSING, Settings, setting
from etd_tf.text.options import TEXT_KINDS, RecordOptions

if TYPE_CHECKING:
    from etd_tf.text.records import RecordSet
    from etd_tf.tokenization.tokenizer import Tokenizer

SUMMARY = """turns raw text into sharded TFRecords for etd_distill --corpus=RECORDS.

Example:
  etd_prepare --corpus='wiki/*.txt.gz' --tokenizer=bert_dir --output_dir=records

Text is streamed: memory does not grow with the corpus. Run the same command again to continue
an interrupted preparation. The files do not depend on --runner, --workers or the time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareFlags(Settings):
    """What is prepared, where and by whom."""

    title = "Text"

    corpus: tuple[str, ...] = setting(
        (),
        f"Raw text: files or globs ({TEXT_KINDS}), tfds:NAME (e.g. tfds:wikipedia/20230601.en) or "
        "stdlib:pydoc.",
    )
    validation_corpus: tuple[str, ...] = setting((), "Held-out text, instead of held_out_fraction.")
    tokenizer: str = setting(
        MISSING,
        "The model that will read the records, or its tokenizer's directory.",
        required=True,
    )
    options: RecordOptions
    output_dir: Path = setting(
        MISSING, "Directory for the records and manifest.json.", required=True, group="Run"
    )
    runner: str = setting(
        "local",
        "local, or an Apache Beam runner: direct (processes of this machine), flink, spark, "
        "dataflow, ...; needs Apache Beam. The files are the same.",
        group="Run",
    )
    runner_options: tuple[str, ...] = setting(
        (), "Beam's own options, e.g. --flink_master=HOST:8081,--parallelism=64.", group="Run"
    )
    workers: int = setting(
        0,
        "Processes that tokenise, of the runners local and direct; 0 for one a core.",
        least=0,
        group="Run",
    )
    overwrite: bool = setting(False, "Replace finished records in output_dir.", group="Run")

    def idle(self) -> dict[str, str]:
        """Beam's options are for Beam's runners."""
        if self.runner == "local" and self.runner_options:
            return {"runner_options": "it is for Beam's runners; give --runner, too"}
        return {}


def run(flag_set: FlagSet) -> None:
    """Prepares the text that the flags describe and prints what was made."""
    flags = flag_set.read(PrepareFlags)
    if flags.validation_corpus:
        for name in {"held_out_fraction", "seed"}.intersection(flags.options.changed()):
            why = "validation_corpus=... is the held-out text"
            flag_set.tell_idle(name, why, refuses=False)
    prepare = _runner(flags)
    tokenizer = _tokenizer(flags.tokenizer)
    try:
        records = prepare(
            flags.corpus,
            tokenizer,
            flags.output_dir,
            options=flags.options,
            validation_corpus=flags.validation_corpus,
            overwrite=flags.overwrite,
        )
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        raise Interrupted(
            signum, "Finished files are kept; run the same command again to continue."
        ) from stop
    sys.stdout.write(describe(records))


def _runner(flags: PrepareFlags) -> Callable[..., "RecordSet"]:
    """The function that prepares records, for what `--runner` names.

    Raises:
        InputError: The runner is not available, or a flag does not fit it.
    """
    if flags.runner == "local":
        from etd_tf.text.prepare import prepare_records

        return functools.partial(prepare_records, workers=flags.workers or os.cpu_count() or 1)
    from etd_tf.text.beam import beam_engine, prepare_on_beam

    engine = beam_engine(flags.runner, flags.runner_options, workers=flags.workers)
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


COMMAND = Command("etd_prepare", SUMMARY, (PrepareFlags,), run, needs_tensorflow=False)


if __name__ == "__main__":
    COMMAND.main()
