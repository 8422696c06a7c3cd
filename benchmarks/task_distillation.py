"""What distilling on tasks is worth: tasks x controls x seeds, with time and operations.

    .venv/bin/python benchmarks/task_distillation.py --teacher=BERT_DIR --student=DIR \
        --glue_dir=DIR --source=glue/mnli --output_dir=OUT

Controls, of which each ends in a score on the target task:

- teacher: the pre-trained teacher, fine-tuned.
- labels: the student, fine-tuned.
- source-labels: the student, fine-tuned on the source task, then on the target.
- source-stages: the student, distilled on the source task, then fine-tuned on the target.
  A claim of transfer is the difference to source-labels.
- stages: the student, distilled on the target task: states, logits, labels.
- cut-stages: the same, with a student of the same sizes cut out of the fine-tuned teacher.
- layers: the student through TinyBERT's second step: layers, then logits at temperature 1.

Every step is a run of etd_evaluate or etd_transfer in a directory below OUT. The same command
continues what is not finished. Scores are those of the metric that ranks models. With three seeds,
two rates and a BERT-base teacher, MRPC takes minutes on a GPU and MNLI hours.

Source: the controls of XtremeDistilTransformers (Mukherjee et al. 2021, arXiv 2106.04563).
"""

import argparse
import json
import statistics
from collections.abc import Callable

from task_runs import (
    Run,
    add_flags,
    finished,
    print_table,
    task_flags,
    training_flags,
    training_flops,
)

from etd_tf.checkpoints import load_checkpoint

TASKS = "glue/sst2,glue/mrpc,glue/stsb,glue/cola,glue/rte"


class Study:
    """The runs of all controls."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tuning = training_flags(options)
        self.source_tuning = training_flags(options, seeds=options.seeds.split(",")[0])

    def evaluate(self, name: str, task: str, model: object, *more: str) -> Run:
        """Fine-tunes a model on a task."""
        flags = [f"--model={model}", *task_flags(self.options, task), *(more or self.tuning)]
        return finished("etd_evaluate", self.options.output_dir / task / name, flags)

    def transfer(self, name: str, task: str, student: list[str], *more: str) -> Run:
        """Distils the task's fine-tuned teacher."""
        teacher = self.teacher(task).model
        cache = f"--cache_dir={self.options.output_dir / 'cache'}"
        flags = [f"--teacher={teacher}", *student, *task_flags(self.options, task), cache]
        return finished("etd_transfer", self.options.output_dir / task / name, [*flags, *more])

    def teacher(self, task: str) -> Run:
        """The teacher, fine-tuned with the first seed."""
        return self.evaluate("teacher", task, self.options.teacher, *self.source_tuning)

    def labels(self, task: str) -> Run:
        """Labels of the target task."""
        return self.evaluate("labels", task, self.options.student)

    def source_labels(self, task: str) -> Run:
        """Labels of the source task, then of the target."""
        source = self.options.source
        first = self.evaluate("source-labels-1", source, self.options.student, *self.source_tuning)
        return self.evaluate("source-labels", task, first.model)

    def source_stages(self, task: str) -> Run:
        """Stages on the source task, then labels of the target."""
        stages = [*self.source_tuning, *self.stages_flags(self.options.source)]
        first = self.transfer("source-stages-1", self.options.source, self.given_student(), *stages)
        return self.evaluate("source-stages", task, first.model)

    def stages(self, task: str) -> Run:
        """Stages on the target task."""
        return self.transfer(
            "stages", task, self.given_student(), *self.tuning, *self.stages_flags(task)
        )

    def cut_stages(self, task: str) -> Run:
        """Stages on the target task, of a student cut out of its teacher."""
        config = load_checkpoint(self.options.student).config
        sizes = {
            "layers": config.num_layers,
            "hidden": config.hidden_size,
            "heads": config.num_heads,
            "intermediate": config.intermediate_size,
        }
        student = [f"--student_{name}={size}" for name, size in sizes.items()]
        return self.transfer("cut-stages", task, student, *self.tuning, *self.stages_flags(task))

    def layers(self, task: str) -> Run:
        """TinyBERT's second step."""
        steps = ["--stages=layers,logits", "--temperature=1"]
        return self.transfer("layers", task, self.given_student(), *self.tuning, *steps)

    def given_student(self) -> list[str]:
        """The flag of the given student."""
        return [f"--student={self.options.student}"]

    @staticmethod
    def stages_flags(task: str) -> list[str]:
        """A flag where a task lacks the state that a head reads."""
        return ["--stages=logits,labels"] if task.startswith("squad") else []

    def flops(self, control: str, task: str) -> int:
        """Operations of one training at one rate, the work on the source task included."""
        options, source = self.options, self.options.source

        def tuned(task: str, model: object, stages: int = 1) -> int:
            return training_flops(options, task, model, stages)[1]

        def distilled(task: str) -> int:
            stages = (len(self.stages_flags(task)) and 2) or 3
            heard = training_flops(options, task, options.teacher)[0]
            return heard + tuned(task, options.student, stages)

        if control == "teacher":
            return tuned(task, options.teacher)
        if control == "layers":  # the teacher runs beside the student
            heard = training_flops(options, task, options.teacher)[0]
            return (1 + options.epochs) * heard + tuned(task, options.student, 2)
        own = distilled(task) if control in ("stages", "cut-stages") else 0
        before = {"source-labels": tuned, "source-stages": lambda task, _: distilled(task)}
        earlier = before[control](source, options.student) if control in before else 0
        return own + earlier + (0 if own else tuned(task, options.student))


CONTROLS: dict[str, Callable[[Study, str], Run]] = {
    "teacher": Study.teacher,
    "labels": Study.labels,
    "source-labels": Study.source_labels,
    "source-stages": Study.source_stages,
    "stages": Study.stages,
    "cut-stages": Study.cut_stages,
    "layers": Study.layers,
}


def row_of(study: Study, task: str, control: str, teacher: Run) -> dict[str, object]:
    """One line of the table."""
    run = CONTROLS[control](study, task)
    mean, best = statistics.fmean(run.scores), statistics.fmean(teacher.scores)
    return {
        "task": task,
        "control": control,
        "mean": mean,
        "std": statistics.stdev(run.scores) if len(run.scores) > 1 else None,
        "kept": mean / best if best > 0 else None,
        "seconds": run.seconds,
        "flops": study.flops(control, task),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", required=True, help="pre-trained, with a tokenizer")
    parser.add_argument("--student", required=True, help="of etd_distill or etd_extract")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--source", help="the source task; default: no controls of transfer")
    parser.add_argument("--controls", help="default: all that there is data for")
    add_flags(parser)
    options = parser.parse_args()
    usual = [c for c in CONTROLS if options.source or not c.startswith("source")]
    controls = options.controls.split(",") if options.controls else usual
    study, rows = Study(options), []
    for task in options.tasks.split(","):
        teacher = study.teacher(task)
        rows += [row_of(study, task, control, teacher) for control in controls]
        table = options.output_dir / "table.json"
        table.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    cells = []
    for row in rows:
        spread = "" if row["std"] is None else f"{row['std']:.4f}"
        kept = "" if row["kept"] is None else f"{row['kept']:.1%}"
        numbers = f"{row['mean']:.4f}", spread, kept, f"{row['seconds']:.0f}"
        cells.append([row["task"], row["control"], *numbers, f"{row['flops'] / 1e12:.3g}"])
    print_table(["task", "control", "score", "std", "kept", "seconds", "TFLOP a training"], cells)


if __name__ == "__main__":
    main()
