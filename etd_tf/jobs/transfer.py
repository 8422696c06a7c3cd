"""Distilling a fine-tuned model on its task: teacher's outputs, stages, share kept."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.baseline import baseline_values
from etd_tf.evaluation.experiment import Experiment, shares_kept
from etd_tf.evaluation.finetuned import load_finetuned
from etd_tf.evaluation.options import MODEL_DIR, PAGE_FILE, PREDICTIONS_DIR, SAVED_MODEL_DIR
from etd_tf.evaluation.run_record import RunRecord
from etd_tf.evaluation.stages import LAYERS, STATES
from etd_tf.evaluation.teacher import kept_outputs, outputs_key
from etd_tf.evaluation.training import TrainingSet
from etd_tf.evaluation.transfer import TransferData, TransferResult, transfer
from etd_tf.extraction.starts import Work, no_text
from etd_tf.jobs.task_options import TransferJobOptions
from etd_tf.losses.base import ModelSpec
from etd_tf.modeling.reading import USUAL
from etd_tf.reporting.evaluation_page import write_evaluation_page
from etd_tf.storage.heads import check_is_text, read_head
from etd_tf.storage.holding import hold
from etd_tf.storage.home import expand
from etd_tf.storage.text_files import read_texts
from etd_tf.tasks import TextTask, TrainedTask
from etd_tf.tasks.squad_experiment import SquadExperiment
from etd_tf.tasks.tag_experiment import TagExperiment
from etd_tf.tasks.text_experiment import TextExperiment
from etd_tf.tokenization.sequences import Sequences, same_tokens
from etd_tf.types import Array


def run_transfer(options: TransferJobOptions) -> TransferResult:
    """Distils a fine-tuned teacher into a student on the task's texts.

    The directory gets `results.json`, the first seed's model in `model/`, its predictions, and
    with `saved_model` a SavedModel. The cache gets what the teacher says about the texts, for all
    runs and seeds, and a student that is cut out of it.

    Raises:
        InputError: A model or file cannot be used, or `output_dir` holds another run.
        DivergenceError: No learning rate trains without diverging.
    """
    if options.output_dir.is_file():
        raise InputError(f"output_dir={options.output_dir} is a file; choose a directory.")
    with hold(options.output_dir):
        return _Transfer(options).run()


class _Transfer:
    """One run."""

    def __init__(self, options: TransferJobOptions) -> None:
        self._options = options
        self._task = options.find_task()
        self._extra = _read_unlabelled(options, self._task)
        self._teacher = load_finetuned(options.teacher)
        self._teacher.check_head(self._task.head, self._task.name)
        self._teacher_view = self._task.experiment(
            self._teacher.checkpoint, self._teacher.label_names
        )
        self._selection: Array | None = None
        self._student = load_checkpoint(options.student) if options.student else self._cut()
        self._view = self._task.experiment(self._student)
        self._check_stages()

    def _cut(self) -> Checkpoint:
        """Cuts the student out of the teacher, by importance for the task's texts."""
        options, teacher = self._options, self._teacher.checkpoint
        start = options.extraction.start
        key = [dataclasses.asdict(part) for part in (options.size, options.extraction)]
        texts = outputs_key(self._teacher, self._texts(), self._teacher_view.class_order)
        content = json.dumps([key, options.seed, texts], default=str)
        folder = self._cache / "cut" / hashlib.sha256(content.encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        config = options.size.config(teacher.config)
        work = _TaskWork(teacher, config, options.extraction, options.seed, folder=folder)
        work = dataclasses.replace(work, sequences=self._texts())
        start.check(work)
        with hold(folder):
            made = start.make(work)
        if made.plan is not None:
            self._selection = made.plan.selection_matrix()
        return made.checkpoint

    def _check_stages(self) -> None:
        """Refuses stages that the two models cannot go through, before anything is trained."""
        stages, view, other = self._options.transfer.stages, self._view, self._teacher_view
        if STATES in stages and isinstance(view, TextExperiment):
            theirs = other.reading if isinstance(other, TextExperiment) else USUAL
            if view.reading.is_twin != theirs.is_twin:
                raise InputError(
                    f"The student reads pairs={view.reading.pairs} and the teacher "
                    f"pairs={theirs.pairs}, so that their states are of other texts. Leave states "
                    "out of stages, or let both read alike."
                )
        if LAYERS in stages or isinstance(view, SquadExperiment):
            ours, theirs_ = (one.training_set().sequences for one in (view, other))
            if not same_tokens(ours, theirs_):
                raise InputError(
                    "Teacher and student split the texts into other tokens, so that "
                    f"{'layers' if LAYERS in stages else self._task.name} cannot be compared token "
                    "by token. Take a student with the teacher's tokenizer, max_length and pairs."
                )
        if LAYERS in stages:
            teacher, student = self._teacher.checkpoint.config, self._student.config
            loss = self._options.transfer.make_layer_loss()
            loss.validate(ModelSpec(teacher), ModelSpec(student))

    def run(self) -> TransferResult:
        """Trains what is missing and scores both models."""
        options, view = self._options, self._view
        model_dirs = (MODEL_DIR, PREDICTIONS_DIR, PAGE_FILE)
        saved = (SAVED_MODEL_DIR,) if options.transfer.training.saved_model else ()
        record = RunRecord.open(
            options.output_dir,
            self._settings(view),
            overwrite=options.overwrite,
            outputs=(*model_dirs, *saved),
            command="etd_transfer",
        )
        result, stage = transfer(self._student, view, self._data, options.transfer, record)
        teacher = self._teacher_view.evaluate(self._teacher.model)
        means = result.means()
        kept = shares_kept(means, teacher, view.metric)
        found = {"learning_rate": result.learning_rate, "stage": stage, "summary": result.summary}
        baseline = baseline_values(result.baseline)
        record.finish({**found, "baseline": baseline, "teacher": teacher, "kept": kept})
        write_evaluation_page(options.output_dir)
        return TransferResult(result, stage, teacher, kept)

    def _settings(self, view: Experiment) -> dict[str, Any]:
        return {
            "task": self._task.name,
            "model": self._student.source,
            "fingerprint": self._student.fingerprint(),
            "teacher": self._teacher.checkpoint.fingerprint(),
            "unlabelled": _fingerprint(self._extra),
            **view.settings(),
            **self._options.transfer.record(),
        }

    @property
    def _cache(self) -> Path:
        return expand(self._options.cache_dir)

    def _texts(self) -> Sequences:
        """Training and unlabelled texts in the teacher's tokens."""
        view = self._teacher_view
        sequences = view.training_set().sequences
        if self._extra and isinstance(view, TextExperiment):
            sequences = sequences.joined(view.encode(self._extra))
        return sequences

    def _data(self) -> TransferData:
        """The teacher's outputs for training and unlabelled texts."""
        other, view, extra = self._teacher_view, self._view, None
        words = other.training_words if isinstance(other, TagExperiment) else ()
        folder = self._cache / "teacher_outputs"
        outputs = kept_outputs(folder, self._teacher, self._texts(), other.class_order, words)
        if self._extra and isinstance(view, TextExperiment):
            labelled = len(view.training_set())
            rest, outputs = outputs.take(slice(labelled, None)), outputs.take(slice(labelled))
            extra = TrainingSet(view.encode(self._extra), rest.labels())
        return TransferData(outputs, extra, self._teacher.model, self._selection)


@dataclasses.dataclass(frozen=True)
class _TaskWork(Work):
    """What a start works with where a task's examples are the text."""

    sequences: Sequences | None = None

    def examples(self, purpose: str) -> dict[str, Array]:
        """Samples the examples; of a pair read apart both texts."""
        if self.sequences is None:
            raise no_text(f"{purpose} on text")
        order = np.random.default_rng(self.seed).permutation(len(self.sequences))
        return self.sequences.batch(np.sort(order[: self.options.importance_examples]))


def _read_unlabelled(options: TransferJobOptions, task: TrainedTask) -> list[tuple[str, ...]]:
    """Texts without labels, one a line; of a pair both, parted by a tab."""
    if not options.unlabelled or not isinstance(task, TextTask):
        return []
    path, wanted = expand(options.unlabelled), len(task.text_names)
    check_is_text(path, read_head(path))
    texts = []
    for number, line in enumerate(read_texts(path), 1):
        parts = tuple(line.split("\t")) if wanted > 1 else (line,)
        if len(parts) != wanted:
            raise InputError(
                f"{path}, line {number}: {len(parts)} texts parted by tabs, expected {wanted}."
            )
        if all(part.strip() for part in parts):
            texts.append(parts)
    if not texts:
        raise InputError(f"{path} has no texts. Give one a line, or leave out unlabelled=.")
    return texts


def _fingerprint(texts: list[tuple[str, ...]]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest() if texts else ""
