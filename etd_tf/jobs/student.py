"""The student before distillation: scored, planned, cut out; each kept in the run directory."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from absl import logging

from etd_tf.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction import (
    ExtractionPlan,
    UnitScores,
    extract,
    extract_compensated,
    initial_student,
    plan_extraction,
    score_units,
)
from etd_tf.jobs.options import ExtractionOptions
from etd_tf.modeling.config import BertConfig
from etd_tf.text.batches import load_examples
from etd_tf.text.records import RecordSet
from etd_tf.types import Array

COMPENSATED_DIRECTORY = "compensated"

KeepSeconds = Callable[[str, float], float]
"""Takes a stage and its seconds just now, 0 where it was reused; returns what it once took."""


@dataclasses.dataclass(frozen=True)
class InitialStudent:
    """The student that distillation starts from.

    Attributes:
        checkpoint: The student.
        plan: Where its weights come from; None for random initialisation.
        scores: The scores behind the plan, if any.
        scoring_seconds: Time spent on the scores; 0 for those of another run.
        compensation_seconds: Time spent on compensation.
    """

    checkpoint: Checkpoint
    plan: ExtractionPlan | None = None
    scores: UnitScores | None = None
    scoring_seconds: float = 0.0
    compensation_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Time of all that came before the first step."""
        return self.scoring_seconds + self.compensation_seconds


def check_extraction(options: ExtractionOptions, teacher: Checkpoint, config: BertConfig) -> None:
    """Checks that a student can be taken out of a teacher, before any long work.

    Args:
        options: How it is taken out.
        teacher: The teacher.
        config: The student's configuration.

    Raises:
        InputError: It cannot, or saved scores do not fit.
    """
    if options.scores is not None:
        load_scores(options.scores, teacher, metric=options.asked_metric)
    if options.extraction != "none":
        plan_extraction(
            teacher.config,
            config,
            seed=0,
            head_mode=options.head_mode,
            layer_selection=options.layer_selection,
        )


def _just_now(_stage: str, seconds: float) -> float:
    return seconds


def make_initial_student(
    teacher: Checkpoint,
    config: BertConfig,
    records: RecordSet | None,
    options: ExtractionOptions,
    run_dir: Path,
    *,
    seed: int,
    keep_seconds: KeepSeconds = _just_now,
) -> InitialStudent:
    """Scores the teacher's units, plans and extracts; reuses what an earlier sitting made.

    Args:
        teacher: The teacher.
        config: The student's sizes.
        records: Text for scoring; None where nothing is scored on text.
        options: How to extract.
        run_dir: Where `scores.npz` and `plan.json` are kept.
        seed: Seed of sampling, probes, ETD-Rand and random initialisation.
        keep_seconds: Remembers over interruptions how long a stage took; called when it ends.

    Returns:
        The initial student.

    Raises:
        InputError: Sizes, scores or plan do not fit the teacher, or there is no text to
            score on.
    """
    if options.extraction == "none":
        return InitialStudent(initial_student(teacher, config, seed=seed))
    scores, seconds = None, 0.0
    if options.extraction == "impt":
        scores, seconds = make_scores(teacher, records, options, run_dir, seed=seed)
        seconds = keep_seconds("scoring", seconds)
    plan_path = run_dir / "plan.json"
    if plan_path.exists():
        plan = ExtractionPlan.load(plan_path)
    else:
        plan = plan_extraction(
            teacher.config,
            config,
            scores,
            seed=seed if scores is None else None,
            head_mode=options.head_mode,
            layer_selection=options.layer_selection,
        )
        plan.save(plan_path)
    if not options.compensate:
        return InitialStudent(extract(teacher, plan), plan, scores, seconds)
    folder = run_dir / COMPENSATED_DIRECTORY
    student, more = make_compensated(teacher, plan, records, options, folder, seed=seed)
    return InitialStudent(student, plan, scores, seconds, keep_seconds("compensation", more))


def make_compensated(
    teacher: Checkpoint,
    plan: ExtractionPlan,
    records: RecordSet | None,
    options: ExtractionOptions,
    folder: Path,
    *,
    seed: int,
    rotate: bool = True,
) -> tuple[Checkpoint, float]:
    """Extracts with compensation, or loads what an earlier sitting made.

    Args:
        teacher: The teacher.
        plan: What is kept.
        records: Text for the statistics.
        options: How many sequences of it.
        folder: Where the student is kept, since the plan alone cannot reproduce it.
        seed: Seed of the sample.
        rotate: Heads may get bases that suit the cut.

    Returns:
        The student, and the seconds just spent on it.

    Raises:
        InputError: There is no text.
    """
    if folder.exists():
        return load_checkpoint(folder), 0.0
    started = time.monotonic()
    examples = _sample(records, options, "--compensate folds units by their activations", seed=seed)
    result = extract_compensated(teacher, plan, examples, rotate=rotate)
    if result.is_plain:
        logging.warning(
            "Compensation did not help on held-out text; the student is sliced plainly."
        )
    save_checkpoint(result.student, folder)
    return result.student, time.monotonic() - started


def make_scores(
    teacher: Checkpoint,
    records: RecordSet | None,
    options: ExtractionOptions,
    run_dir: Path,
    *,
    seed: int,
) -> tuple[UnitScores, float]:
    """Scores the teacher's units, or loads what an earlier sitting made.

    Args:
        teacher: The teacher.
        records: Text for scoring; None where nothing is scored on text.
        options: How to score.
        run_dir: An existing directory, where `scores.npz` is kept.
        seed: Seed of sampling and probes.

    Returns:
        The scores, and the seconds just spent on them.

    Raises:
        InputError: The scores are of another teacher, or there is no text to score on.
    """
    path = run_dir / "scores.npz"
    if path.exists():
        return load_scores(path, teacher), 0.0
    if options.scores is not None:
        scores = load_scores(options.scores, teacher, metric=options.asked_metric)
        scores.save(path)
        return scores, 0.0
    examples = scoring_examples(records, options, seed=seed)
    started = time.monotonic()
    scores = score_units(
        teacher,
        examples,
        metric=options.importance_metric,
        loss=options.importance_loss,
        seed=seed,
    )
    seconds = time.monotonic() - started
    scores.save(path)
    return scores, seconds


def load_scores(path: Path, teacher: Checkpoint, *, metric: str | None = None) -> UnitScores:
    """Reads saved scores of a teacher.

    Args:
        path: The file.
        teacher: Whose scores they must be.
        metric: The importance metric that was asked for; None takes any.

    Returns:
        The scores.

    Raises:
        InputError: The file cannot be read, or the scores are of another teacher or metric.
    """
    scores = UnitScores.load(path)
    if scores.teacher_fingerprint not in (None, teacher.fingerprint()):
        raise InputError(
            f"The scores in {path} were made from another teacher than {teacher.source}. Use that "
            "teacher, or score this one: leave --scores out, in a new --output_dir."
        )
    if metric not in (None, scores.metric):
        raise InputError(
            f"{path} holds scores of the metric {scores.metric}, and --importance_metric={metric} "
            "asks for others. Leave one of them out."
        )
    return scores


def scoring_examples(
    records: RecordSet | None, options: ExtractionOptions, *, seed: int
) -> dict[str, Array] | None:
    """Samples the sequences that units are scored on.

    Args:
        records: The text.
        options: How to score.
        seed: Seed of the sample.

    Returns:
        Int32 arrays `[n, T]` by name; None for a metric that reads no text.

    Raises:
        InputError: There is no text to score on.
    """
    if options.importance_metric == "magnitude":
        return None
    return _sample(
        records,
        options,
        f"--importance_metric={options.importance_metric} scores units",
        seed=seed,
    )


def _sample(
    records: RecordSet | None, options: ExtractionOptions, purpose: str, *, seed: int
) -> dict[str, Array]:
    if records is None:
        raise InputError(
            f"{purpose} on text. Name it with --corpus. Without text there are --scores of an "
            "earlier run, --importance_metric=magnitude and --extraction=rand, all without "
            "--compensate."
        )
    size = sample_size(records, options)
    if size < options.importance_examples:
        logging.warning(
            "The corpus has %d sequences; extraction reads them all instead of %d.",
            size,
            options.importance_examples,
        )
    return load_examples(records, size, seed=seed)


def sample_size(records: RecordSet, options: ExtractionOptions) -> int:
    """Says how many sequences an extraction reads: those asked for, or all that there are."""
    return min(records.num_examples(), options.importance_examples)
