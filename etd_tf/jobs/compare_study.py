"""What all runs of a comparison share: its directory, teacher, text and scores."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.data.records import VALIDATION, RecordSet
from etd_tf.distillation.options import FREE_OPTIONS
from etd_tf.distillation.strategy import make_strategy
from etd_tf.errors import InputError
from etd_tf.extraction import UnitScores
from etd_tf.files import write_atomically
from etd_tf.jobs.compare_arms import ARMS
from etd_tf.jobs.compare_types import CompareOptions, RunSpec, student_name
from etd_tf.jobs.directories import check_is_directory, open_directory
from etd_tf.jobs.distill import check_models
from etd_tf.jobs.inputs import check_corpus, prepare_corpus, with_tokenizer
from etd_tf.jobs.run_directory import RunDirectory
from etd_tf.jobs.student import make_scores
from etd_tf.modeling.config import BertConfig, read_json_object

STUDY_FILE = "study.json"
_SCORES = "scores"
SCORING_SEED = 0
"""Seed of scoring, which all runs share."""
# Flags that add runs or scores to a comparison, or change nothing in its numbers.
_FREE = frozenset(
    {
        *("losses", "students", "arms", "seeds", "together"),
        *("tasks", "glue_dir", "squad_dir", "squad_epochs", "finetune_at"),
        *("finetune_learning_rates", "finetune_seeds", "finetune_epochs"),
        *("output_dir", "cache_dir"),
        *(FREE_OPTIONS - {"evaluate_at"}),
    }
)


def open_study(
    folder: Path, settings: Mapping[str, str]
) -> contextlib.AbstractContextManager[None]:
    """Takes hold of a comparison's directory, to begin it, continue it or add to it.

    Args:
        folder: The directory; made if missing, and removed if nothing was begun in it.
        settings: Flag values by name.

    Returns:
        Holds the directory until its block ends.

    Raises:
        InputError: It holds something else, or a comparison with other settings; another
            process works in it, or it cannot be written.
    """
    return open_directory(folder, functools.partial(check_study, folder, settings))


def begin_study(folder: Path, settings: Mapping[str, str]) -> None:
    """Notes the settings; called when the work is known to be possible.

    Args:
        folder: The opened directory.
        settings: Flag values by name.
    """
    fixed = {name: value for name, value in settings.items() if name not in _FREE}
    write_atomically(folder / STUDY_FILE, json.dumps(fixed, indent=2) + "\n")


def check_study(folder: Path, settings: Mapping[str, str]) -> None:
    """Checks that a directory is new, or holds a comparison with the same settings.

    Args:
        folder: The directory; it need not exist.
        settings: Flag values by name; those that only add runs may differ.

    Raises:
        InputError: It does not.
    """
    check_is_directory(folder)
    path = folder / STUDY_FILE
    if not path.exists():
        if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise InputError(
                f"--output_dir={folder} holds files that no run of etd_compare made. Choose an "
                "empty or new directory."
            )
        return
    stored = read_json_object(path)
    changed = [
        f"--{name} was {stored.get(name, '')!r} and is now {settings.get(name, '')!r}"
        for name in sorted({*stored, *settings} - _FREE)
        if stored.get(name, "") != settings.get(name, "")
    ]
    if changed:
        raise InputError(
            f"{folder} holds a comparison with other settings: {'; '.join(changed)}. Arms can only "
            "be compared under equal ones: choose another --output_dir."
        )


@dataclasses.dataclass(frozen=True)
class Study:
    """An opened comparison.

    Attributes:
        options: Its settings.
        folder: Its directory.
        teacher: The teacher.
        configs: The student's configuration of each run.
        records: The text.
        strategy: Where the runs train.
    """

    options: CompareOptions
    folder: Path
    teacher: Checkpoint
    configs: Mapping[RunSpec, BertConfig]
    records: RecordSet
    strategy: tf.distribute.Strategy

    @classmethod
    def prepare(cls, options: CompareOptions, folder: Path) -> "Study":
        """Loads the teacher, checks every run against it, and prepares the text.

        Args:
            options: The settings.
            folder: The comparison's directory.

        Returns:
            The study.

        Raises:
            InputError: A run could not be made, or no text is held out.
        """
        teacher, configs = check_comparison(options)
        strategy = make_strategy(options.base.hardware.strategy)
        options.base.trainer.check_split(strategy.num_replicas_in_sync)
        records = prepare_corpus(options.base.corpus, teacher)
        if not records.shards.get(VALIDATION):
            raise InputError(
                f"{records.source} holds no held-out text, by which arms are compared. Name some "
                "with --validation_corpus."
            )
        for spec in configs:
            options.distill_options(spec, folder).resolve_masking(records)  # only for its checks
        return cls(options, folder, teacher, configs, records, strategy)

    def scores(self, metric: str) -> tuple[UnitScores, float]:
        """Scores the teacher's units; once for all runs, kept on disk.

        Args:
            metric: The importance metric.

        Returns:
            The scores, and the seconds that they took.
        """
        folder = self.folder / _SCORES / metric
        folder.mkdir(parents=True, exist_ok=True)
        extraction = dataclasses.replace(
            self.options.base.extraction, extraction="impt", importance_metric=metric
        )
        scores, seconds = make_scores(
            self.teacher, self.records, extraction, folder, seed=SCORING_SEED
        )
        return scores, RunDirectory(folder, {}).keep_seconds("scoring", seconds)


def check_comparison(options: CompareOptions) -> tuple[Checkpoint, dict[RunSpec, BertConfig]]:
    """Checks everything that can be checked without long work; writes nothing.

    Args:
        options: The settings.

    Returns:
        The teacher, and the student's configuration of each run.

    Raises:
        InputError: A run could not be made.
    """
    check_corpus(options.base.corpus)
    teacher = with_tokenizer(load_checkpoint(options.base.teacher), options.base.corpus.tokenizer)
    configs = {}
    for spec in options.runs():
        config = check_models(options.distill_options(spec, options.base.output_dir), teacher)
        if ARMS[spec.arm].keeps_width:
            _check_width(spec, teacher.config)
        configs[spec] = config
    return teacher, configs


def _check_width(spec: RunSpec, teacher: BertConfig) -> None:
    fitting = dataclasses.replace(
        spec.size,
        hidden=teacher.hidden_size,
        heads=teacher.num_heads,
        intermediate=teacher.intermediate_size,
    )
    if spec.size != fitting:
        raise InputError(
            f"--arms={spec.arm} copies whole layers, so it cannot make the student "
            f"{student_name(spec.size)}. Use --students={student_name(fitting)}, or leave "
            f"{spec.arm} out."
        )
