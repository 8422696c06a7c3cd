"""What all runs of a comparison share: teacher, text, scores and task data."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from etd_tf.checkpoints import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.latency import LatencyComparison
from etd_tf.extraction.starts import Work
from etd_tf.extraction.starts.impt import SCORES_FILE
from etd_tf.jobs.compare_runs import is_finished
from etd_tf.jobs.compare_types import CompareOptions, RunSpec
from etd_tf.jobs.distill import LAYOUT as RUN_LAYOUT
from etd_tf.jobs.distill import check_models, load_teacher
from etd_tf.jobs.distill import workspace_of as run_workspace
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.held_out_fidelity import HeldOutFidelity, held_out_fidelity
from etd_tf.jobs.inputs import check_corpus, identity_of, prepare_corpus
from etd_tf.modeling.config import BertConfig
from etd_tf.settings import free_flags
from etd_tf.storage.holding import visible_names
from etd_tf.storage.home import expand
from etd_tf.storage.workspace import Layout, Workspace
from etd_tf.text.records import VALIDATION, RecordSet
from etd_tf.training.strategy import make_strategy

_SCORES = "scores"
_SCORING_SEED = 0  # all runs share the scores

LAYOUT = Layout(
    job="etd_compare",
    mark="study.json",
    free=free_flags(CompareOptions),
)
"""The directory of a comparison, to which runs can be added at any time."""


def workspace_of(options: CompareOptions) -> Workspace:
    """The directory of a comparison, not yet held."""
    return Workspace(LAYOUT, expand(options.base.output_dir), options.base.settings)


@dataclasses.dataclass(frozen=True)
class Study:
    """An opened comparison.

    Attributes:
        folder: Its directory.
        configs: The student's configuration of each run.
        records: The text.
        strategy: Where the runs train.
        task_data: Fingerprint of each downstream task's data.
        latencies: Times by the student's configuration, once they are measured.
    """

    options: CompareOptions
    folder: Path
    teacher: Checkpoint
    configs: Mapping[RunSpec, BertConfig]
    records: RecordSet
    strategy: tf.distribute.Strategy
    task_data: Mapping[str, str]
    latencies: dict[BertConfig, tuple[LatencyComparison, ...]] = dataclasses.field(
        default_factory=dict
    )

    @classmethod
    def prepare(
        cls, options: CompareOptions, folder: Path, task_data: Mapping[str, str]
    ) -> "Study":
        """Loads the teacher, checks every run against it, and prepares the text.

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
                "with validation_corpus=FILES."
            )
        for spec in configs:
            options.distill_options(spec, folder).resolve_masking(records)  # only for its checks
        return cls(options, folder, teacher, configs, records, strategy, task_data)

    @functools.cached_property
    def fidelity(self) -> HeldOutFidelity | None:
        """What measures students of a sentence encoder; first read behind the first trainer."""
        return held_out_fidelity(self.teacher, self.records, self.options.held_out_sequences)

    def identity(self) -> dict[str, Any]:
        """What the names in the flags stood for when the runs were made, as JSON values."""
        return identity_of(self.teacher, self.records)

    def share_scores(self, work: Work) -> Work:
        """Puts scores into a run's directory, if its start needs some; a metric scores once.

        Returns:
            It, with the sample of the text that all runs share.
        """
        work = dataclasses.replace(work, sample_seed=_SCORING_SEED)
        options = work.options
        metric = options.start.metric(options)
        if not metric or (work.folder / SCORES_FILE).exists():
            return work
        shared = Workspace(RUN_LAYOUT, self.folder / _SCORES / metric)
        shared.path.mkdir(parents=True, exist_ok=True)
        scores, seconds = options.start.scores(
            dataclasses.replace(work, folder=shared.path, keep_seconds=shared.keep_seconds)
        )
        work.keep_seconds("scoring", seconds)
        if scores is not None:
            scores.save(work.folder / SCORES_FILE)
        return work


def check_comparison(options: CompareOptions) -> tuple[Checkpoint, dict[RunSpec, BertConfig]]:
    """Checks everything that can be checked without long work; writes nothing.

    Returns:
        The teacher, and the student's configuration of each run.

    Raises:
        InputError: A run could not be made.
    """
    folder = options.base.output_dir
    runs = {spec: options.distill_options(spec, folder) for spec in options.runs()}
    for run in runs.values():
        _check_directory(run)
    check_corpus(options.base.corpus)
    teacher = load_teacher(options.base, pools=any(run.needs_vectors for run in runs.values()))
    return teacher, {spec: check_models(run, teacher) for spec, run in runs.items()}


def _check_directory(options: DistillOptions) -> None:
    run = run_workspace(options)
    if is_finished(run.path):
        return
    found = {*visible_names(run.path)}
    if RUN_LAYOUT.mark not in found and not found.isdisjoint(RUN_LAYOUT.names):
        raise InputError(
            f"The arm in {run.path} was begun by an earlier version of etd_tf and is not finished. "
            "Finish the comparison with that version, or remove the directory to make it again."
        )
    run.check()
