"""`bin/etd_distill`: the main job."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from etd_tf.cli import flags as shared
from etd_tf.cli.app import Command, FlagSet, run_command
from etd_tf.errors import InputError

if TYPE_CHECKING:
    from etd_tf.jobs.distill_types import DistillOptions

EXPORT_FORMATS = ("saved_model", "keras_hub", "google", "litert")

SUMMARY = """extracts a small student from a BERT teacher and distils it on raw text.

Example:
  etd_distill --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=out \\
    --student_layers=6 --student_hidden=384 --student_heads=12 --student_intermediate=1536

OUT/student is then a Hugging Face directory and OUT/saved_model a TensorFlow Serving model;
OUT/report.html tells how it went. Run the same command again to continue an interrupted run."""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("Teacher")
    shared.define_teacher(flag_set)
    shared.define_student(flag_set)
    shared.define_extraction(flag_set)
    shared.define_corpus(flag_set)
    _define_loss(flag_set)
    _define_training(flag_set)
    _define_hardware(flag_set)
    shared.define_output(flag_set)
    flag_set.strings(
        "export",
        ["saved_model"],
        f"Formats written beside the Hugging Face directory: {', '.join(EXPORT_FORMATS)}; "
        "empty for none.",
    )
    flag_set.boolean(
        "dry_run", False, "Check everything, print sizes and the expected cost, and stop."
    )
    flag_set.required("teacher", "output_dir")


def _define_loss(flag_set: FlagSet) -> None:
    flag_set.group("Distillation loss")
    flag_set.choice(
        "loss",
        "minilm",
        ["tinybert", "minilm", "minilmv2", "mlm"],
        "tinybert: attention scores and hidden states; minilm: attention and value relations "
        "(equal head counts); minilmv2: query, key and value relations (any head counts); mlm: "
        "the teacher's masked-LM logits.",
    )
    flag_set.choice(
        "tinybert_layers",
        "last",
        ["last", "all"],
        "Layers of the tinybert loss: the last, or all (with embeddings).",
    )
    flag_set.integer(
        "teacher_layer", -1, "Teacher layer of the minilm losses, 1 to L; -1 is the last."
    )
    flag_set.integer(
        "relation_heads", None, "Relation heads of minilmv2; default: the most that fit, up to 48."
    )
    flag_set.number("temperature", 1.0, "Softmax temperature of the mlm loss.", minimum=1e-3)
    flag_set.number(
        "student_loss_weight",
        0.0,
        "Share of the student's own masked-LM loss in the total, below 1.",
        minimum=0.0,
    )
    flag_set.number(
        "masking_rate",
        None,
        "Share of input tokens masked; default: 0.15 where a masked-LM loss needs it, else 0.",
        minimum=0.0,
    )


def _define_training(flag_set: FlagSet) -> None:
    flag_set.group("Training")
    flag_set.integer("steps", 1000, "Optimizer steps.", minimum=1)
    flag_set.integer("batch_size", 32, "Sequences a step, over all devices.", minimum=1)
    flag_set.number("learning_rate", 5e-4, "Peak learning rate.")
    flag_set.integer("warmup_steps", 0, "Steps of linear warm-up.", minimum=0)
    flag_set.number("weight_decay", 0.01, "AdamW decay; biases and LayerNorms are spared.")
    flag_set.number("clip_norm", 1.0, "Largest global gradient norm; 0 for no clipping.")
    flag_set.integer(
        "gradient_accumulation",
        1,
        "Parts in which each device computes its batch, to save memory.",
        minimum=1,
    )
    flag_set.number(
        "dropout", None, "Student's dropout while distilling; default: its configuration's rates."
    )
    flag_set.integer("log_every", 10, "Steps between lines of metrics.jsonl.", minimum=1)
    flag_set.integer(
        "evaluate_every", 100, "Steps between held-out evaluations; 0: at the end.", minimum=0
    )
    flag_set.integer(
        "checkpoint_every", 200, "Steps between checkpoints; 0: on signals.", minimum=0
    )
    flag_set.integer("keep_checkpoints", 2, "Checkpoints kept on disk.", minimum=1)


def _define_hardware(flag_set: FlagSet) -> None:
    flag_set.group("Hardware")
    flag_set.choice(
        "strategy",
        "auto",
        ["auto", "one_device", "mirrored", "multi_worker", "tpu"],
        "tf.distribute strategy; auto takes what the machine offers.",
    )
    flag_set.choice(
        "jit_compile",
        "auto",
        ["auto", "on", "off"],
        "XLA for the training step; auto: on for GPU and TPU, where it is faster.",
    )
    precisions = ["float32", "mixed_bfloat16", "mixed_float16"]
    flag_set.choice("precision", "float32", precisions, "Precision of the student's products.")
    flag_set.choice(
        "teacher_precision",
        "auto",
        ["auto", "float32", "mixed_bfloat16"],
        "Precision of the teacher's products; auto: bfloat16 where --precision is mixed.",
    )
    flag_set.integer(
        "steps_per_call", 1, "Steps in one call of the compiled loop; 10 or more suits GPUs."
    )


def read_options(values: flags.FlagValues) -> "DistillOptions":
    """Turns parsed flags into the job's settings.

    Raises:
        InputError: Two flags contradict each other, or a value is out of range.
    """
    from etd_tf.distillation import TrainerOptions
    from etd_tf.jobs.distill_types import DistillOptions

    unknown = sorted(set(values.export) - set(EXPORT_FORMATS))
    if unknown:
        raise InputError(
            f"--export={','.join(unknown)} is unknown; choose from {', '.join(EXPORT_FORMATS)}. "
            "The Hugging Face directory is always written."
        )
    return DistillOptions(
        teacher=values.teacher,
        output_dir=Path(values.output_dir),
        student=shared.student_size(values),
        extraction=shared.extraction_options(values),
        corpus=shared.corpus_options(values),
        trainer=TrainerOptions(
            steps=values.steps,
            batch_size=values.batch_size,
            learning_rate=values.learning_rate,
            warmup_steps=values.warmup_steps,
            weight_decay=values.weight_decay,
            clip_norm=values.clip_norm,
            gradient_accumulation=values.gradient_accumulation,
            seed=values.seed,
            jit_compile=values.jit_compile,
            steps_per_call=values.steps_per_call,
            log_every=values.log_every,
            evaluate_every=values.evaluate_every,
            checkpoint_every=values.checkpoint_every,
            keep_checkpoints=values.keep_checkpoints,
        ),
        hardware=shared.hardware_options(values),
        loss=values.loss,
        loss_options=_loss_options(values),
        student_loss_weight=values.student_loss_weight,
        dropout=values.dropout,
        masking_rate=values.masking_rate,
        exports=tuple(values.export),
        overwrite=values.overwrite,
        settings=shared.settings(values),
    )


# Which flags belong to which loss: setting another loss's flag would do nothing.
_LOSS_FLAGS: dict[str, dict[str, str]] = {
    "tinybert": {"tinybert_layers": "layers"},
    "minilm": {"teacher_layer": "teacher_layer"},
    "minilmv2": {"teacher_layer": "teacher_layer", "relation_heads": "relation_heads"},
    "mlm": {"temperature": "temperature"},
}


def _loss_options(values: flags.FlagValues) -> dict[str, Any]:
    mine = _LOSS_FLAGS[values.loss]
    others = {flag for names in _LOSS_FLAGS.values() for flag in names} - set(mine)
    for flag in sorted(others):
        if values[flag].present and values[flag].value != values[flag].default:
            users = [loss for loss, names in _LOSS_FLAGS.items() if flag in names]
            raise InputError(
                f"--{flag} has no effect on --loss={values.loss}; it belongs to "
                f"{' and '.join(users)}."
            )
    return {option: values[flag].value for flag, option in mine.items()}


def run(values: flags.FlagValues) -> None:
    """Runs the job that the flags describe and prints what was made."""
    options = read_options(values)
    from etd_tf.jobs.cost import forecast_cost
    from etd_tf.jobs.distill import check_distillation, run_distillation
    from etd_tf.jobs.summary import describe_cost, describe_result

    if values.dry_run:
        sys.stdout.write(describe_cost(forecast_cost(options, *check_distillation(options))))
        return
    sys.stdout.write(describe_result(run_distillation(options)))


COMMAND = Command("etd_distill", SUMMARY, define_flags, run)


def main() -> None:
    """Entry point of `etd_distill`."""
    sys.exit(run_command(COMMAND))


if __name__ == "__main__":
    main()
