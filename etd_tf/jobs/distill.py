"""The main job: teacher and text in, extracted and distilled student out."""

import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import logging

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.distillation import Distiller, Trainer
from etd_tf.distillation.vectors import pooling_of, principal_directions
from etd_tf.errors import FidelityError, InputError, input_errors
from etd_tf.export import FORMATS
from etd_tf.extraction.starts import InitialStudent, Work, made_files
from etd_tf.jobs.distill_types import DistillOptions, DistillResult
from etd_tf.jobs.held_out_fidelity import (
    check_measurable,
    check_pooling,
    held_out_fidelity,
)
from etd_tf.jobs.inputs import (
    TrainingText,
    check_corpus,
    identity_of,
    prepare_corpus,
    with_tokenizer,
)
from etd_tf.jobs.outputs import write_outputs
from etd_tf.losses.base import ModelSpec, check_mlm_head
from etd_tf.modeling.config import BertConfig
from etd_tf.settings import free_flags
from etd_tf.storage.home import expand
from etd_tf.storage.workspace import Layout, Workspace
from etd_tf.text.lengths import is_a_text_a_row
from etd_tf.text.records import RecordSet
from etd_tf.training.strategy import make_strategy, teacher_policy
from etd_tf.training.workers import Workers

LAYOUT = Layout(
    job="etd_distill",
    mark="flags.txt",
    names=(
        *("report.json", "report.html", *made_files()),
        *("metrics.jsonl", "tensorboard", "checkpoints"),
        *dict.fromkeys(form.folder.partition("/")[0] for form in FORMATS.values()),
    ),
    finished="report.json",
    folders=("checkpoints", "exports"),
    free=free_flags(DistillOptions),
)
"""What a distillation makes in its directory."""


def workspace_of(options: DistillOptions, *, is_chief: bool = True) -> Workspace:
    """The run directory of a distillation, not yet held; only the chief of several workers writes.

    Returns:
        It, not yet held.
    """
    path = expand(options.output_dir)
    return Workspace(LAYOUT, path, options.flags, options.overwrite, is_chief)


def run_distillation(options: DistillOptions) -> DistillResult:
    """Runs the job, or continues where an interrupted run of it ended.

    Raises:
        InputError: Something in the settings, the files or the run directory cannot be
            used; found before long work starts.
        DivergenceError: The loss became infinite or NaN.
        FidelityError: The student is less faithful than `min_fidelity`; it is finished and kept.
        Interrupted: A signal ended the training; the same call continues it.
    """
    strategy = make_strategy(options.hardware.strategy)
    options.trainer.check_split(strategy.num_replicas_in_sync)
    workers = Workers(strategy)
    with workspace_of(options, is_chief=workers.is_chief).open() as run:
        teacher, config = load_models(options)
        records = prepare_corpus(options.corpus, teacher)
        options.resolve_masking(records)  # only for its checks
        # One student for all: machines that round differently would each extract another one.
        with workers.chief_first():
            if options.min_fidelity is not None:
                check_measurable(teacher, records, options.held_out_sequences)
            work = begin_run(options, run, teacher, config, records)
            initial = options.extraction.start.make(work)
            text = training_text(options, teacher, records, strategy)
        trainer = make_trainer(options, teacher, initial, text, strategy)
        with input_errors(), _memory_errors(options):
            count = options.held_out_sequences
            fidelity = held_out_fidelity(teacher, records, count) if run.is_chief else None
            training = trainer.fit(
                text.batches,
                text.held_out(count),
                on_evaluate=lambda step: (
                    fidelity.log_values(trainer.distiller) if fidelity and step else {}
                ),
            )
        student = finished_student(trainer.distiller, config, options.teacher)
        found = None if fidelity is None else fidelity.facts(student, initial.checkpoint)
        result = DistillResult(run.path, teacher, student, initial, text.records, training, found)
        if run.is_chief:
            result = dataclasses.replace(result, report=write_outputs(options, result))
    check_fidelity(options, result)
    return result


def check_fidelity(options: DistillOptions, result: DistillResult) -> None:
    """Checks that a student is as faithful as was asked for."""
    if result.fidelity is None or options.min_fidelity is None:
        return
    found = result.fidelity.student
    if found.neighbours < options.min_fidelity:
        raise FidelityError(
            f"The student finds {found.neighbours:.3f} of the teacher's nearest neighbours among "
            f"{found.num_texts} held-out sequences, less than min_fidelity={options.min_fidelity}. "
            f"It is kept in {result.run_dir}. Train longer or make it larger, in another "
            "output_dir.",
            result,
        )


def begin_run(
    options: DistillOptions,
    run: Workspace,
    teacher: Checkpoint,
    config: BertConfig,
    records: RecordSet,
) -> Work:
    """Begins a run, or goes on with it.

    Raises:
        InputError: The run was begun with another teacher or text.
    """
    run.begin(identity_of(teacher, records))
    return Work(
        *(teacher, config, options.extraction, options.trainer.seed),
        text=records,
        folder=run.path,
        keep_seconds=run.keep_seconds,
    )


@contextlib.contextmanager
def _memory_errors(options: DistillOptions) -> Iterator[None]:
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if os.strerror(errno.ENOSPC) in str(error):  # of the disk
            raise
        trainer = options.trainer
        raise InputError(
            f"The device's memory is too small for batch_size={trainer.batch_size} with "
            f"gradient_accumulation={trainer.gradient_accumulation}. Raise the second or "
            "lower the first, and start again with overwrite=True."
        ) from error


def check_distillation(options: DistillOptions) -> tuple[Checkpoint, BertConfig]:
    """Checks everything that can be checked without long work; writes nothing.

    Returns:
        The teacher, and the student's configuration.

    Raises:
        InputError: The job could not run.
    """
    workspace_of(options).check()
    return load_models(options)


def load_models(options: DistillOptions) -> tuple[Checkpoint, BertConfig]:
    """Loads the teacher and checks it against student, loss and text, cheapest first.

    Returns:
        The teacher, and the student's configuration.

    Raises:
        InputError: The teacher cannot be read, or does not fit student, loss or text.
    """
    check_corpus(options.corpus)
    options.make_losses()  # only for their checks
    teacher = load_teacher(options, pools=options.needs_vectors)
    return teacher, check_models(options, teacher)


def load_teacher(options: DistillOptions, *, pools: bool) -> Checkpoint:
    """Loads the teacher; where it has to pool and does not say how, it takes the mean.

    Returns:
        The teacher, with its tokenizer.

    Raises:
        InputError: It cannot be read.
    """
    teacher = with_tokenizer(load_checkpoint(options.teacher), options.corpus.tokenizer)
    if not pools or teacher.pooling is not None:
        return teacher
    return teacher.replace(pooling=pooling_of(teacher))


def check_models(options: DistillOptions, teacher: Checkpoint) -> BertConfig:
    """Checks a teacher, with its tokenizer, against student, loss and text.

    Returns:
        The student's configuration.

    Raises:
        InputError: They do not fit.
    """
    config = options.student.config(teacher.config)
    if config == teacher.config:
        logging.warning(
            "The student has the teacher's sizes (%d layers, width %d): nothing becomes smaller. "
            "Set the student's layers, width, heads or feed-forward width.",
            config.num_layers,
            config.hidden_size,
        )
    options.extraction.start.check(Work(teacher, config, options.extraction))
    has_head = teacher.has_mlm_head
    specs = [ModelSpec(one, has_head, teacher.pooling) for one in (teacher.config, config)]
    for loss in options.make_losses():
        loss.validate(*specs)
    if options.student_loss_weight > 0:
        check_mlm_head(ModelSpec(config, has_head), "teacher", "student_loss_weight above 0")
    _check_text(options, teacher)
    if options.min_fidelity is not None:
        check_pooling(teacher)
    return config


def _check_text(options: DistillOptions, teacher: Checkpoint) -> None:
    if options.corpus.sequence_length > teacher.config.max_positions:
        raise InputError(
            f"sequence_length={options.corpus.sequence_length} is longer than the teacher's "
            f"{teacher.config.max_positions} positions; give at most that."
        )


def training_text(
    options: DistillOptions,
    teacher: Checkpoint,
    records: RecordSet,
    strategy: tf.distribute.Strategy,
) -> TrainingText:
    """Makes the batches of a run of records.

    The teacher's sentence vectors are computed beforehand where nothing else is read of it.

    Returns:
        The text.

    Raises:
        InputError: The records do not go with the masking that is asked for.
    """
    rate = options.resolve_masking(records)
    # Masking and TPUs need batches of one length.
    similar = options.similar_lengths and is_a_text_a_row(records) and rate == 0
    similar = similar and not isinstance(strategy, tf.distribute.TPUStrategy)
    text = TrainingText(records, teacher, rate, options.trainer, similar)
    return _with_vectors(options, text, strategy)


def _with_vectors(
    options: DistillOptions, text: TrainingText, strategy: tf.distribute.Strategy
) -> TrainingText:
    """The text with the teacher's vectors where they serve; where they do not, this is said."""
    if not options.needs_vectors or not options.cache_vectors:
        return text
    reason = ""
    if not options.reads_vectors_alone:
        reads = [loss.name for loss in options.make_losses() if loss.needs_internals]
        reason = f"loss={','.join(reads)} reads more of the teacher than its vector"
    elif text.masking_rate > 0:
        reason = "the teacher reads other masked tokens in every step"
    elif isinstance(strategy, tf.distribute.TPUStrategy):
        reason = "the TPU computes them as fast"
    if reason:
        logging.warning("Sentence vectors are not cached: %s. The teacher runs along.", reason)
        return text
    cache, count = options.corpus.cache_dir, options.held_out_sequences
    return text.with_teacher_vectors(cache, count, _teacher_dtype(options))


def _teacher_dtype(options: DistillOptions) -> Any:
    hardware = options.hardware
    if hardware.teacher_precision != "auto":
        return hardware.teacher_precision
    return teacher_policy(hardware.precision)


def make_trainer(
    options: DistillOptions,
    teacher: Checkpoint,
    initial: InitialStudent,
    text: TrainingText,
    strategy: tf.distribute.Strategy,
) -> Trainer:
    """Builds the trainer with both models under the strategy and in their precisions."""
    hardware = options.hardware
    teacher_dtype = _teacher_dtype(options)
    losses = options.make_losses()
    selection: Any = initial.plan
    if selection is None and any(loss.needs_map for loss in losses):
        width = initial.checkpoint.config.hidden_size
        selection = principal_directions(teacher, text.batches(), width)
    rate = options.dropout_rate(teacher)
    rates = {} if rate is None else {"hidden_dropout": rate, "attention_dropout": rate}

    def make_distiller() -> Distiller:
        start = initial.checkpoint
        student = start.replace(config=start.config.replace(**rates), dtype=hardware.precision)
        return Distiller(
            teacher,
            student,
            losses,
            distillation_loss_weights=options.weights,
            student_loss_weight=options.student_loss_weight,
            selection=selection,
            teacher_dtype=teacher_dtype,
            teacher_vectors=text.records.teacher_vectors is not None,
        )

    return Trainer(
        make_distiller,
        options.trainer,
        run_dir=expand(options.output_dir),
        strategy=strategy,
        mixed_float16=hardware.precision == "mixed_float16",
        identity={
            **identity_of(teacher, text.records),
            "student": initial.checkpoint.fingerprint(),
            "loss": _loss_identity(options),
            "precision": [hardware.precision, teacher_dtype],
            "dropout": rate,
            "masking_rate": text.masking_rate,
            **({"similar_lengths": True} if text.similar_lengths else {}),  # older runs go on
        },
    )


def _loss_identity(options: DistillOptions) -> list[Any]:
    """What of the losses a resumed run must have equal."""
    names, given = options.loss_text, [options.loss_options.get(name, {}) for name in options.loss]
    # One loss stands as it always did, so that older runs go on.
    return [names, *map(dict, given), options.student_loss_weight]


def finished_student(distiller: Distiller, config: BertConfig, teacher: str) -> Checkpoint:
    """The trained student in float32, with the dropout rates of its own configuration."""
    source, pooling = f"student of {teacher}", distiller.student_pooling
    trained = distiller.student
    return trained.replace(config=config, source=source, dtype="float32", pooling=pooling)
