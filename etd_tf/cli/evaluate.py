"""`bin/etd_evaluate`: fine-tuning with official metrics, similarity probe, benchmark."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from etd_tf.cli import flags as shared
from etd_tf.cli.app import Command, FlagSet, run_command
from etd_tf.errors import InputError
from etd_tf.settings import NamedSetting, settings_of
from etd_tf.tasks import TASKS, ScoredTask, TrainedTask

if TYPE_CHECKING:
    from etd_tf.evaluation.finetuning import FinetuneOptions
    from etd_tf.jobs.evaluate import EvaluationOptions

SUMMARY = """measures what a model is worth.

Examples:
  etd_evaluate --model=out --teacher=bert_dir --task=sts-probe --glue_dir=glue
  etd_evaluate --model=out --task=glue/sst2 --glue_dir=glue --output_dir=sst2 \\
    --learning_rates=1e-4,3e-4 --seeds=0,1,2
  etd_evaluate --model=sst2/model --task=glue/sst2 --glue_dir=glue --nofinetune
  etd_evaluate --model=out --teacher=bert_dir --benchmark

Fine-tuning reports official metrics on dev. Of several learning rates the best is chosen on a
held-out tenth of train, never on dev. Run the same command again to continue an interrupted run."""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("Model")
    flag_set.strings(
        "model",
        [],
        "A directory made by etd_distill or etd_extract, or anything that etd_distill takes as "
        "--teacher. sts-probe and --benchmark take several, with commas.",
    )
    flag_set.string("teacher", None, "sts-probe, --benchmark: a model to compare with.")
    _define_task(flag_set)
    _define_finetuning(flag_set)
    flag_set.group("Run")
    flag_set.string(
        "output_dir",
        None,
        "Gets results.json, and from fine-tuning predictions in the benchmark's format and the "
        "first seed's model.",
    )
    flag_set.boolean("overwrite", False, "Replace a finished run in --output_dir.")


def _define_task(flag_set: FlagSet) -> None:
    flag_set.group("Task")
    flag_set.string("task", "", f"One of: {', '.join(TASKS)}. AX comes with glue/mnli.")
    for option in _task_settings().values():
        flag_set.setting(option)
    flag_set.boolean(
        "benchmark",
        False,
        "Measure parameters, FLOPs, size on disk, and latency at 128 tokens, or as many as all "
        "models have positions, batch 1 and 32.",
    )


def _define_finetuning(flag_set: FlagSet) -> None:
    flag_set.group("Fine-tuning")
    flag_set.boolean("finetune", True, "--nofinetune scores a model that is fine-tuned already.")
    flag_set.strings("learning_rates", ["1e-4"], "Peak learning rates to choose from.")
    flag_set.strings("seeds", ["0"], "One training each; results are means over them.")
    flag_set.integer("epochs", 3, "Passes over the training data.", minimum=1)
    flag_set.integer("batch_size", 32, "Examples a step.", minimum=1)
    flag_set.number("warmup_ratio", 0.1, "Share of the steps with a rising learning rate.")
    flag_set.number("weight_decay", 0.01, "AdamW decay; biases and LayerNorms are spared.")
    flag_set.choice(
        "precision", "float32", ["float32", "mixed_bfloat16"], "Precision of matrix products."
    )
    flag_set.boolean("saved_model", False, "Also write a SavedModel: text to label probabilities.")


_FINETUNING_FLAGS = (
    "learning_rates",
    "seeds",
    "epochs",
    "batch_size",
    "warmup_ratio",
    "weight_decay",
    "precision",
    "saved_model",
)


def read_options(values: flags.FlagValues) -> "EvaluationOptions":
    """Turns parsed flags into the job's settings.

    Raises:
        InputError: Two flags contradict each other, or a value is out of range.
    """
    task: str = values.task
    if not values.model:
        raise InputError("--model is missing. Pass --model=DIR, the model to evaluate.")
    if task and task not in TASKS:
        raise InputError(f"--task={task} is unknown; choose from {', '.join(TASKS)}.")
    _refuse_idle_flags(values)
    from etd_tf.jobs.evaluate import EvaluationOptions

    models = [shared.model_source(model) for model in values.model]
    return EvaluationOptions(
        models=tuple(([values.teacher] if values.teacher else []) + models),
        task=task,
        task_options=_task_options(values),
        finetune=_finetune_options(values) if values.finetune else None,
        benchmark=values.benchmark,
        output_dir=Path(values.output_dir).expanduser() if values.output_dir else None,
        overwrite=values.overwrite,
    )


def _task_settings() -> dict[str, NamedSetting]:
    """Options of all tasks, by name."""
    return {one.name: one for task in TASKS.values() for one in settings_of(type(task))}


def _task_options(values: flags.FlagValues) -> dict[str, Any]:
    """What the flags say about the chosen task; data directories may begin with `~`."""
    if not values.task:
        return {}
    task = TASKS[values.task]
    found = {one.name: values[one.flag].value for one in settings_of(type(task))}
    return found | {task.data_setting: os.path.expanduser(found[task.data_setting] or "")}


def _refuse_idle_flags(values: flags.FlagValues) -> None:
    """A flag that the task does not read would silently do nothing."""
    task = TASKS.get(values.task)
    trained = isinstance(task, TrainedTask)
    known = {name: type(one) for name, one in TASKS.items()}
    readers = {
        option.flag: (
            "--task=" + ", ".join(n for n, kind in known.items() if option in settings_of(kind)),
            task is not None and option in settings_of(type(task)),
        )
        for option in _task_settings().values()
    }
    trainings = ", ".join(name for name, one in TASKS.items() if isinstance(one, TrainedTask))
    scorings = ", ".join(name for name, one in TASKS.items() if isinstance(one, ScoredTask))
    readers |= {
        "finetune": (f"--task={trainings}", trained),
        "teacher": (f"{scorings} and --benchmark alone", not trained),
        **dict.fromkeys(_FINETUNING_FLAGS, ("fine-tuning", trained and values.finetune)),
    }
    for name, (reader, is_read) in readers.items():
        flag = values[name]
        if flag.present and flag.value != flag.default and not is_read:
            raise InputError(f"--{name} has an effect on {reader} only. Leave it out.")


def _finetune_options(values: flags.FlagValues) -> "FinetuneOptions":
    from etd_tf.evaluation.finetuning import FinetuneOptions

    return FinetuneOptions(
        learning_rates=shared.numbers(values, "learning_rates", float),
        seeds=shared.numbers(values, "seeds", int),
        epochs=values.epochs,
        batch_size=values.batch_size,
        warmup_ratio=values.warmup_ratio,
        weight_decay=values.weight_decay,
        precision=values.precision,
        saved_model=values.saved_model,
    )


def run(values: flags.FlagValues) -> None:
    """Runs the evaluation that the flags describe and prints its tables."""
    options = read_options(values)
    from etd_tf.jobs.evaluate import run_evaluation
    from etd_tf.jobs.evaluation_summary import describe_evaluation

    sys.stdout.write(describe_evaluation(run_evaluation(options)))


COMMAND = Command("etd_evaluate", SUMMARY, define_flags, run)


def main() -> None:
    """Entry point of `etd_evaluate`."""
    sys.exit(run_command(COMMAND))


if __name__ == "__main__":
    main()
