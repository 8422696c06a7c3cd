"""The main job: teacher and text in, extracted and distilled student out."""

import dataclasses

import tensorflow as tf

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.data.batches import evaluation_batches
from etd_tf.data.records import VALIDATION, RecordSet
from etd_tf.distillation import Distiller, Trainer
from etd_tf.distillation.strategy import make_strategy, teacher_policy, worker_layout
from etd_tf.errors import InputError
from etd_tf.extraction import plan_extraction
from etd_tf.jobs.distill_types import DistillOptions, DistillResult
from etd_tf.jobs.inputs import mask_held_out, masked_batches, prepare_corpus, with_tokenizer
from etd_tf.jobs.outputs import write_outputs
from etd_tf.jobs.run_directory import open_run_directory
from etd_tf.jobs.student import InitialStudent, make_initial_student
from etd_tf.losses import ModelSpec
from etd_tf.modeling.config import BertConfig


def run_distillation(options: DistillOptions) -> DistillResult:
    """Runs the job, or continues where an interrupted run of it ended.

    Args:
        options: The settings.

    Returns:
        What was made.

    Raises:
        InputError: Something in the settings, the files or the run directory cannot be
            used; found before long work starts.
        DivergenceError: The loss became infinite or NaN.
        Interrupted: A signal ended the training; the same call continues it.
    """
    strategy = make_strategy(options.hardware.strategy)
    teacher, config = load_models(options)
    worker = worker_layout(strategy)[1]
    run = open_run_directory(
        options.output_dir, options.settings, overwrite=options.overwrite, worker=worker
    )
    with run as run_dir:
        records = prepare_corpus(options.corpus, teacher, seed=options.trainer.seed)
        initial = make_initial_student(
            teacher, config, records, options.extraction, run_dir, seed=options.trainer.seed
        )
        trainer = make_trainer(options, teacher, initial, records, strategy)
        training = trainer.fit(
            lambda step, workers, worker: masked_batches(
                records,
                teacher,
                rate=options.masking_rate,
                batch_size=options.trainer.batch_size,
                seed=options.trainer.seed,
                start_step=step,
                num_workers=workers,
                worker_index=worker,
            ),
            held_out_batches(options, teacher, records),
        )
        student = finished_student(trainer.distiller.student, config, options.teacher)
        result = DistillResult(run_dir, teacher, student, initial, records, training)
        if worker == 0:
            result = dataclasses.replace(result, report=write_outputs(options, result))
    return result


def load_models(options: DistillOptions) -> tuple[Checkpoint, BertConfig]:
    """Loads the teacher and checks everything that can be checked without long work.

    Returns:
        The teacher, and the student's configuration.

    Raises:
        InputError: The teacher cannot be read, or does not fit student, loss or text.
    """
    teacher = with_tokenizer(load_checkpoint(options.teacher), options.corpus.tokenizer)
    config = options.student.config(teacher.config)
    has_head = teacher.mlm_head is not None
    options.make_loss().validate(ModelSpec(teacher.config, has_head), ModelSpec(config, has_head))
    if options.extraction.extraction != "none":
        plan_extraction(  # only for its checks
            teacher.config,
            config,
            seed=0,
            head_mode=options.extraction.head_mode,
            layer_selection=options.extraction.layer_selection,
        )
    if options.extraction.importance_loss == "mlm" and not has_head:
        raise InputError(
            f"--importance_loss=mlm needs a masked-LM head, but {teacher.source} has none. Use "
            "--importance_loss=reconstruction (or auto)."
        )
    if options.corpus.sequence_length > teacher.config.max_positions:
        raise InputError(
            f"--sequence_length={options.corpus.sequence_length} is longer than the teacher's "
            f"{teacher.config.max_positions} positions."
        )
    return teacher, config


def make_trainer(
    options: DistillOptions,
    teacher: Checkpoint,
    initial: InitialStudent,
    records: RecordSet,
    strategy: tf.distribute.Strategy,
) -> Trainer:
    """Builds the trainer with both models under the strategy and in their precisions."""
    hardware = options.hardware
    teacher_dtype = hardware.teacher_precision
    if teacher_dtype == "auto":
        teacher_dtype = teacher_policy(hardware.precision)
    rate = options.dropout
    rates = {} if rate is None else {"hidden_dropout": rate, "attention_dropout": rate}

    def make_distiller() -> Distiller:
        student = Checkpoint.from_parameters(
            initial.checkpoint.config.replace(**rates),
            initial.checkpoint.parameters(),
            tokenizer=initial.checkpoint.tokenizer,
            dtype=hardware.precision,
        )
        return Distiller(
            teacher,
            student,
            options.make_loss(),
            student_loss_weight=options.student_loss_weight,
            selection=initial.plan,
            teacher_dtype=teacher_dtype,
        )

    return Trainer(
        make_distiller,
        options.trainer,
        run_dir=options.output_dir.expanduser(),
        strategy=strategy,
        mixed_float16=hardware.precision == "mixed_float16",
        identity={
            "teacher": teacher.fingerprint(),
            "student": initial.checkpoint.fingerprint(),
            "records": records.source if not records.manifest else dict(records.manifest)["corpus"],
            "loss": [options.loss, dict(options.loss_options), options.student_loss_weight],
            "precision": [hardware.precision, teacher_dtype],
            "dropout": rate,
            "masking_rate": options.masking_rate,
        },
    )


def held_out_batches(
    options: DistillOptions, teacher: Checkpoint, records: RecordSet
) -> tf.data.Dataset | None:
    """The held-out batches, or None where the records have no validation split."""
    if not records.shards.get(VALIDATION):
        return None
    batches = evaluation_batches(records, batch_size=options.trainer.batch_size, split=VALIDATION)
    if options.masking_rate <= 0:
        return batches
    return mask_held_out(batches, teacher, rate=options.masking_rate, seed=options.trainer.seed)


def finished_student(trained: Checkpoint, config: BertConfig, teacher: str) -> Checkpoint:
    """The trained student in float32, with the dropout rates of its own configuration."""
    return Checkpoint.from_parameters(
        config,
        trained.parameters(),
        tokenizer=trained.tokenizer,
        source=f"student of {teacher}",
        dtype="float32",
    )
