"""`bin/etd_evaluate`: fine-tuning with official metrics, similarity probe, benchmark."""

import dataclasses
import sys

from etd_tf.cli.app import Command
from etd_tf.cli.flags import FlagSet, model_source
from etd_tf.errors import InputError
from etd_tf.jobs.task_options import EvaluationOptions
from etd_tf.settings import setting
from etd_tf.tasks import TASKS, TrainedTask

SUMMARY = """measures what a model is worth.

Examples:
  etd_evaluate --model=out --teacher=bert_dir --task=sts-probe --glue_dir=glue
  etd_evaluate --model=out --teacher=bert_dir --task=fidelity --texts=sentences.txt
  etd_evaluate --model=out --task=glue/sst2 --glue_dir=glue --output_dir=sst2 \\
    --learning_rates=1e-4,3e-4 --seeds=0,1,2
  etd_evaluate --model=sst2/model --task=glue/sst2 --glue_dir=glue --nofinetune
  etd_evaluate --model=out --teacher=bert_dir --benchmark

Fine-tuning reports official metrics on dev. Of several learning rates the best is chosen on a
held-out tenth of train, never on dev. Run the same command again to continue an interrupted run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFlags(EvaluationOptions):
    """An evaluation, with the flag for the model to compare with."""

    teacher: str | None = setting(
        None,
        "A model to compare with; of a task with training one that is fine-tuned for it already.",
        group="Model",
    )


def read_options(flag_set: FlagSet) -> EvaluateFlags:
    """Turns parsed flags into the job's settings.

    Raises:
        InputError: There is no model, flags contradict each other or a value is out of range.
    """
    values = flag_set.values
    if not values.model:
        raise InputError("--model is missing. Pass --model=DIR, the model to evaluate.")
    models = tuple(map(model_source, values.model))
    if values.teacher and isinstance(TASKS.get(values.task), TrainedTask):
        return flag_set.read(EvaluateFlags, models=models, finetuned_teacher=values.teacher)
    teacher = [values.teacher] if values.teacher else []
    return flag_set.read(EvaluateFlags, models=(*teacher, *models))


def run(flag_set: FlagSet) -> None:
    """Runs the evaluation that the flags describe and prints its tables."""
    options = read_options(flag_set)
    from etd_tf.jobs.evaluate import run_evaluation
    from etd_tf.jobs.evaluation_summary import describe_evaluation

    sys.stdout.write(describe_evaluation(run_evaluation(options)))


COMMAND = Command("etd_evaluate", SUMMARY, (EvaluateFlags,), run)


if __name__ == "__main__":
    COMMAND.main()
