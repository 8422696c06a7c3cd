"""Distilling a fine-tuned model on its task: teacher's outputs, stages, share kept."""

import dataclasses
import functools
import hashlib
import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np
from absl import logging

from etd_tf import tasks
from etd_tf.checkpoints import load_checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.baseline import baseline_values
from etd_tf.evaluation.encoding import encode_texts
from etd_tf.evaluation.experiment import Experiment, shares_kept
from etd_tf.evaluation.finetuned import FinetunedModel, load_finetuned
from etd_tf.evaluation.options import MODEL_DIR, PAGE_FILE, PREDICTIONS_DIR, SAVED_MODEL_DIR
from etd_tf.evaluation.run_record import RunRecord
from etd_tf.evaluation.training import TrainingSet
from etd_tf.evaluation.transfer import (
    TeacherOutputs,
    TransferData,
    TransferResult,
    teacher_outputs,
    transfer,
)
from etd_tf.jobs.task_options import TransferJobOptions
from etd_tf.reporting.evaluation_page import write_evaluation_page
from etd_tf.storage.atomic import write_atomically
from etd_tf.storage.heads import check_is_text, read_head
from etd_tf.storage.holding import hold
from etd_tf.storage.home import expand
from etd_tf.storage.text_files import read_texts
from etd_tf.tasks.tag_experiment import TagExperiment
from etd_tf.tasks.text_experiment import TextExperiment

OUTPUTS_FILE = "teacher_outputs.npz"


def run_transfer(options: TransferJobOptions) -> TransferResult:
    """Distils a fine-tuned teacher into a student on the task's texts.

    The directory gets `results.json`, the first seed's model in `model/`, its predictions, with
    `saved_model` a SavedModel, and `teacher_outputs.npz`, which saves the teacher's work where a
    run is continued.

    Args:
        options: What to distil, and how.

    Returns:
        Scores of student and teacher.

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
        self._extra = _read_unlabelled(options)
        self._teacher = load_finetuned(options.teacher)
        self._teacher.check_head(self._task.head, self._task.name)
        self._teacher_view = self._experiment(self._teacher)
        self._student = load_checkpoint(options.student)
        self._view = self._task.experiment(self._student)

    def _experiment(self, model: FinetunedModel) -> TextExperiment | TagExperiment:
        found = self._task.experiment(model.checkpoint, model.label_names)
        if not isinstance(found, TextExperiment | TagExperiment):
            raise InputError(
                f"task={self._task.name} has no texts with a class or a score, and no words with "
                "tags, which distilling on a task needs."
            )
        return found

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
            **dataclasses.asdict(self._options.transfer),
        }

    def _data(self) -> TransferData:
        """The teacher's outputs for training and unlabelled texts, read back where they are."""
        outputs = self._read_outputs() or self._make_outputs()
        if not self._extra:
            return TransferData(outputs)
        labelled = len(self._view.training_set())
        train = TeacherOutputs(outputs.states[:labelled], outputs.logits[:labelled])
        rest = TeacherOutputs(outputs.states[labelled:], outputs.logits[labelled:])
        texts = encode_texts(self._student, self._extra, max_length=self._view.max_length)
        return TransferData(train, TrainingSet(texts, rest.labels()))

    def _make_outputs(self) -> TeacherOutputs:
        view = self._teacher_view
        sequences = view.training_set().sequences
        if self._extra:
            checkpoint = self._teacher.checkpoint
            sequences = sequences.joined(
                encode_texts(checkpoint, self._extra, max_length=view.max_length)
            )
        words = view.training_words if isinstance(view, TagExperiment) else ()
        outputs = teacher_outputs(
            self._teacher, sequences, view.class_order, "Teacher's outputs", words=words
        )
        content = io.BytesIO()
        np.savez(content, key=self._outputs_key(), states=outputs.states, logits=outputs.logits)
        write_atomically(self._options.output_dir / OUTPUTS_FILE, content.getvalue())
        return outputs

    def _read_outputs(self) -> TeacherOutputs | None:
        """The outputs of the run that is continued; None where they are others, or damaged."""
        path = self._options.output_dir / OUTPUTS_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if str(arrays["key"]) == self._outputs_key():
                    return TeacherOutputs(arrays["states"], arrays["logits"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            logging.warning("%s cannot be read (%s); the teacher runs again.", path, error)
        return None

    @functools.cache  # noqa: B019 - one object a run
    def _outputs_key(self) -> str:
        train = self._task.fingerprints()["train"]
        length = self._teacher_view.max_length
        teacher = self._teacher.checkpoint.fingerprint()
        return " ".join([teacher, train, _fingerprint(self._extra), str(length)])


def _read_unlabelled(options: TransferJobOptions) -> list[tuple[str, ...]]:
    """Texts without labels, one a line; of a pair both, parted by a tab."""
    if not options.unlabelled:
        return []
    task = options.find_task()
    if not isinstance(task, tasks.TextTask):
        raise InputError(
            f"unlabelled={options.unlabelled} is for texts with a class or a score; "
            f"task={task.name} reads words. Leave it out."
        )
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
