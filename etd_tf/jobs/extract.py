"""Extraction alone: a teacher goes in, an undistilled student comes out in seconds."""

import dataclasses
from pathlib import Path

from etd_tf.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from etd_tf.extraction.starts import (
    InitialStudent,
    Work,
    made_files,
    no_text,
)
from etd_tf.jobs.cards import extracted_card
from etd_tf.jobs.inputs import prepare_corpus, records_identity, with_tokenizer
from etd_tf.jobs.options import ExtractOptions
from etd_tf.modeling.config import BertConfig
from etd_tf.settings import free_flags
from etd_tf.storage.atomic import remove_path
from etd_tf.storage.home import expand
from etd_tf.storage.workspace import Layout, Workspace
from etd_tf.text.records import RecordSet

STUDENT_DIRECTORY = "student"
LAYOUT = Layout(
    job="etd_extract",
    mark="flags.txt",
    names=(STUDENT_DIRECTORY, *made_files()),
    finished=STUDENT_DIRECTORY,
    free=free_flags(ExtractOptions),
)
"""What an extraction makes in its directory."""


@dataclasses.dataclass(frozen=True)
class ExtractResult:
    """What an extraction job made.

    Attributes:
        directory: The directory, with `student/` in Hugging Face format.
        initial: The student, its plan and scores.
    """

    directory: Path
    teacher: Checkpoint
    initial: InitialStudent


def run_extraction(options: ExtractOptions) -> ExtractResult:
    """Scores, plans, extracts and saves, or continues where an interrupted run ended.

    Raises:
        InputError: The student does not fit the teacher, text is needed but missing, or
            the directory is in use for something else.
    """
    path = expand(options.output_dir)
    with Workspace(LAYOUT, path, options.settings, options.overwrite).open() as run:
        if options.needs_text and options.corpus is None:
            raise no_text("Scoring units needs text")
        teacher, config = _load(options)
        records: RecordSet | None = None
        if options.corpus is not None and options.needs_text:
            records = prepare_corpus(options.corpus, teacher)
        text = records_identity(records) if records is not None else None
        run.begin({"teacher": teacher.fingerprint(), "text": text})
        start = options.extraction.start
        initial = start.make(
            Work(
                *(teacher, config, options.extraction, options.seed),
                text=records,
                folder=path,
                keep_seconds=run.keep_seconds,
            )
        )
        card = extracted_card(teacher, initial, start)
        save_checkpoint(initial.checkpoint, path / STUDENT_DIRECTORY, card=card)
        for name in start.keeps:  # they served the case of an interruption
            remove_path(path / name)
    return ExtractResult(path, teacher, initial)


def _load(options: ExtractOptions) -> tuple[Checkpoint, BertConfig]:
    teacher = load_checkpoint(options.teacher)
    if options.tokenizer is not None or options.needs_text:
        teacher = with_tokenizer(teacher, options.tokenizer)
    config = options.student.config(teacher.config)
    options.extraction.start.check(Work(teacher, config, options.extraction))
    return teacher, config
