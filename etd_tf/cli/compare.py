"""`bin/etd_compare`: differently initialised students side by side."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from etd_tf.cli import flags as shared
from etd_tf.cli import training_flags
from etd_tf.cli.app import Command, FlagSet, run_command
from etd_tf.errors import InputError
from etd_tf.extraction.starts import starts_help
from etd_tf.losses import LOSSES
from etd_tf.settings import NamedSetting, settings_of
from etd_tf.tasks import TASKS, TrainedTask

if TYPE_CHECKING:
    from etd_tf.jobs.compare_tasks import DownstreamOptions
    from etd_tf.jobs.compare_types import CompareOptions
    from etd_tf.jobs.distill_types import DistillOptions

SUMMARY = """distils the same student from different initialisations and compares their cost.

Example:
  etd_compare --teacher=bert_dir --corpus='wiki/*.txt' --output_dir=study --steps=2000 \\
    --losses=minilm,tinybert --students=6x384x12x1536 --arms=none,rand,impt --seeds=0,1

OUT/compare.html and OUT/compare.json tell, for every loss and student, how much compute each arm
saves against random initialisation. They are there after the first run and grow with every
further one. Run the same command again to continue; longer lists of losses, students, arms,
seeds and tasks add to what is there."""


def define_flags(flag_set: FlagSet) -> None:
    """Defines every flag of the command."""
    flag_set.group("What is compared")
    shared.define_teacher(flag_set)
    flag_set.strings("losses", ["minilm"], f"Losses: {', '.join(LOSSES)}.")
    flag_set.strings(
        "students", [], "Students: layers x hidden x heads x intermediate, e.g. 6x384x12x1536."
    )
    flag_set.strings(
        "arms",
        ["none", "rand", "impt"],
        f"How students begin. {starts_help()}",
    )
    flag_set.strings("seeds", ["0"], "Every arm is run with each.")
    flag_set.group("Extraction")
    shared.define_cut(flag_set)
    shared.define_scoring(flag_set)
    shared.define_corpus(flag_set)
    flag_set.group("Distillation losses")
    training_flags.define_loss_details(flag_set)
    training_flags.define_training(flag_set)
    _define_measuring(flag_set)
    training_flags.define_hardware(flag_set)
    flag_set.group("Run")
    flag_set.string("output_dir", None, "Directory for everything that the runs make.")
    flag_set.integer(
        "together", 8, "Most runs that train at once: one pass of the teacher serves them all."
    )
    flag_set.boolean("dry_run", False, "Check everything, print runs and expected cost, and stop.")
    flag_set.required("teacher", "output_dir")


def _define_measuring(flag_set: FlagSet) -> None:
    flag_set.group("Measuring")
    flag_set.strings(
        "evaluate_at",
        [],
        "Steps after which the held-out loss is measured, besides the first and the last; "
        "default: dense early, to a 100th up to a fifth of the steps, then every 20th part.",
    )
    flag_set.integer("held_out_sequences", 512, "Held-out sequences behind each loss.", minimum=1)
    flag_set.strings(
        "snapshots", ["0", "25", "50", "100"], "Percentages of the steps; students kept then."
    )
    flag_set.strings(
        "tasks",
        [],
        "Downstream tasks; those that are not fine-tuned score every kept student. One or more "
        f"of: {', '.join(TASKS)}.",
    )
    for option in _data_settings().values():
        flag_set.setting(option)
    flag_set.strings("finetune_at", ["100"], "Percentages of the steps; students fine-tuned.")
    flag_set.strings("finetune_learning_rates", ["1e-4"], "Peak learning rates to choose from.")
    flag_set.strings("finetune_seeds", ["0"], "One training each.")
    flag_set.integer("finetune_epochs", 3, "Passes over the training data of GLUE.", minimum=1)
    flag_set.integer("squad_epochs", 2, "Passes over the training data of SQuAD.", minimum=1)


def read_options(values: flags.FlagValues) -> "CompareOptions":
    """Turns parsed flags into the job's settings.

    Raises:
        InputError: Two flags contradict each other, or a value is out of range.
    """
    from etd_tf.jobs.compare_types import CompareOptions, parse_student

    if not values.students:
        raise InputError(
            "--students is missing. Give layers x hidden x heads x intermediate, e.g. "
            "--students=6x384x12x1536."
        )
    known = [loss for loss in values.losses if loss in LOSSES]
    return CompareOptions(
        base=_base_options(values),
        losses=tuple(values.losses),
        students=tuple(map(parse_student, values.students)),
        arms=tuple(values.arms),
        seeds=shared.numbers(values, "seeds", int),
        loss_options=training_flags.loss_options(values, known),
        evaluate_at=tuple(sorted(shared.numbers(values, "evaluate_at", int))),
        held_out_sequences=values.held_out_sequences,
        snapshots=shared.numbers(values, "snapshots", int),
        downstream=_downstream_options(values),
        together=values.together,
    )


def _base_options(values: flags.FlagValues) -> "DistillOptions":
    from etd_tf.extraction.starts import ExtractionOptions
    from etd_tf.jobs.distill_types import DistillOptions
    from etd_tf.jobs.options import StudentSize

    return DistillOptions(
        teacher=values.teacher,
        output_dir=Path(values.output_dir).expanduser(),
        student=StudentSize(),
        extraction=ExtractionOptions(
            head_mode=values.head_mode,
            layer_selection=shared.split_layer_selection(values),
            importance_loss=values.importance_loss,
            importance_examples=values.importance_examples,
        ),
        corpus=shared.corpus_options(values),
        trainer=training_flags.trainer_options(values, seed=0),
        hardware=shared.hardware_options(values),
        student_loss_weight=values.student_loss_weight,
        dropout=values.dropout,
        masking_rate=values.masking_rate,
        settings=shared.settings(values),
    )


def _downstream_options(values: flags.FlagValues) -> "DownstreamOptions":
    from etd_tf.evaluation.finetuning import FinetuneOptions
    from etd_tf.jobs.compare_tasks import DownstreamOptions

    _check_downstream_flags(values)
    return DownstreamOptions(
        tasks=tuple(values.tasks),
        data={name: values[name].value or "" for name in _data_settings()},
        squad_epochs=values.squad_epochs,
        finetune=FinetuneOptions(
            learning_rates=shared.numbers(values, "finetune_learning_rates", float),
            seeds=shared.numbers(values, "finetune_seeds", int),
            epochs=values.finetune_epochs,
        ),
        finetune_at=shared.numbers(values, "finetune_at", int),
    )


def _data_settings() -> dict[str, NamedSetting]:
    """The options that say where tasks' data is, by name."""
    return {
        one.name: one
        for task in TASKS.values()
        for one in settings_of(type(task))
        if one.name == task.data_setting
    }


def _check_downstream_flags(values: flags.FlagValues) -> None:
    """Refuses flags of tasks that are not asked for; a flag file may name all data there is."""
    trained = {name: one for name, one in TASKS.items() if isinstance(one, TrainedTask)}
    needs = {name: (set(TASKS), "") for name in _data_settings()}
    for setting in ("finetune_epochs", "squad_epochs"):
        users = {name for name, one in trained.items() if one.epochs_setting == setting}
        needs[setting] = (users, f"={', '.join(sorted(users))}")
    for name in ("at", "learning_rates", "seeds"):
        needs[f"finetune_{name}"] = (set(trained), f"={', '.join(trained)}")
    for name, (useful, tasks) in needs.items():
        flag = values[name]
        if flag.present and flag.value != flag.default and not useful & set(values.tasks):
            raise InputError(f"--{name} has an effect on --tasks{tasks} only.")


def run(values: flags.FlagValues) -> None:
    """Runs the comparison that the flags describe and prints its table."""
    options = read_options(values)
    from etd_tf.jobs.compare import run_comparison
    from etd_tf.jobs.compare_forecast import describe_forecast, forecast_comparison
    from etd_tf.jobs.compare_summary import describe_comparison

    if values.dry_run:
        sys.stdout.write(describe_forecast(forecast_comparison(options)))
        return
    comparison = run_comparison(options)
    sys.stdout.write(describe_comparison(comparison, options.base.output_dir))


COMMAND = Command("etd_compare", SUMMARY, define_flags, run)


def main() -> None:
    """Entry point of `etd_compare`."""
    sys.exit(run_command(COMMAND))


if __name__ == "__main__":
    main()
