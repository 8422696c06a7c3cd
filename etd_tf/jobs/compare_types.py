"""Settings of a comparison: which students, initialised how, distilled under which losses."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etd_tf import tasks
from etd_tf.errors import InputError
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.extraction.starts import STARTS, ExtractionOptions
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import StudentSize
from etd_tf.losses import LOSSES, parse_sum, sum_text
from etd_tf.settings import MISSING, Settings, listed, options_of, part, setting, summaries
from etd_tf.tasks import Task, TrainedTask

_GROWTH = 1.5  # between early evaluations
_PARTS = 20  # equal parts of the run, each followed by an evaluation
# Where an extracted student passes a random one's last loss, savings are told to the percent.
_FINE_PARTS, _FINE_SHARE = 100, 0.2


def default_evaluations(steps: int) -> tuple[int, ...]:
    """Steps after which the held-out loss is measured.

    Dense early, then every 100th part up to a fifth of the run, then every 20th part.

    Returns:
        Ascending steps from 1 to `steps`.
    """
    found = {-(-steps * part // _PARTS) for part in range(1, _PARTS + 1)}
    fine = range(_FINE_PARTS // _PARTS, round(_FINE_PARTS * _FINE_SHARE))
    found |= {-(-steps * part // _FINE_PARTS) for part in fine}
    step = 1.0
    while step < steps / _PARTS:
        found.add(round(step))
        step *= _GROWTH
    return tuple(sorted(found))


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One distillation run of a comparison.

    Attributes:
        loss: The distillation loss, or a sum of several as `parse_sum` reads it.
        size: The student's sizes.
        arm: Its initialisation, a name in `STARTS`.
    """

    loss: str
    size: StudentSize
    arm: str
    seed: int

    @property
    def folder(self) -> str:
        """Its run directory below the comparison's."""
        return f"{self.loss}-{self.size}/{self.arm}-seed{self.seed}"

    @property
    def name(self) -> str:
        """Its name for readers."""
        return f"{self.arm} of {self.loss} {self.size}, seed {self.seed}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunsOptions(Settings):
    """Runs that were made apart and are to be compared."""

    title = "What is compared"

    runs: tuple[Path, ...] = setting(
        (),
        "Finished run directories of etd_distill to compare, instead of making runs; teacher, "
        "text and students are read from them.",
        distinct=True,
        free=True,
        replaces=("teacher",),
    )
    output_dir: Path = setting(MISSING, "Directory of the comparison.", flag="")


@dataclasses.dataclass(frozen=True)
class DownstreamOptions(Settings):
    """What the students are tried on besides the held-out loss.

    Attributes:
        data: Where the tasks' data is, by the name of the option that says so, e.g.
            `glue_dir`.
        finetune: How students are trained on tasks that need it, but for SQuAD's epochs.

    Raises:
        InputError: A task is unknown or lacks its data, or a value is out of range.
    """

    title = "Measuring"

    tasks: tuple[str, ...] = setting(
        (),
        "Downstream tasks; those that are not fine-tuned score every kept student.",
        choices=lambda: tasks.TASKS,
        distinct=True,
        free=True,
    )
    data: Mapping[str, str | None] = options_of(
        lambda: tasks.TASKS, only=lambda task: task.data_options, free=True
    )
    finetune: FinetuneOptions = part(
        FinetuneOptions,
        prefix="finetune_",
        without=("batch_size", "warmup_ratio", "weight_decay", "precision", "saved_model"),
        free=True,
        group="Measuring",
    )
    squad_epochs: int = setting(
        2, "Passes over SQuAD, which is larger than most tasks of GLUE.", least=1, free=True
    )
    finetune_at: tuple[int, ...] = setting(
        (100,),
        "Percentages of the steps; students fine-tuned.",
        least=0,
        most=100,
        some=True,
        distinct=True,
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.tasks:
            self.task(name).check_source()

    def idle(self) -> dict[str, str]:
        """Says why settings have no effect on the tasks, by flag.

        Where there is a task, data of others may be named, so that one file of flags serves all.
        """
        trained = {name: one for name, one in tasks.TASKS.items() if isinstance(one, TrainedTask)}
        readers = {f"finetune_{name}": [*trained] for name in ("at", "learning_rates", "seeds")}
        for flag in ("finetune_epochs", "squad_epochs"):
            readers[flag] = [name for name, one in trained.items() if one.epochs_setting == flag]
        unread = {name: "it is for tasks=" for name in self.data if not self.tasks}
        for flag, names in readers.items():
            if not {*names} & {*self.tasks}:
                unread[flag] = f"it is for tasks={', '.join(names)}"
        return {name: unread[name] for name in self.changed() if name in unread}

    def task(self, name: str) -> Task:
        """One of the tasks, told where its data is."""
        told = {key: self.data[key] for key in tasks.TASKS[name].data_options if key in self.data}
        return tasks.get(name, **told)

    def finetuning(self, name: str) -> FinetuneOptions:
        """How students are trained on a task."""
        epochs = {"finetune_epochs": self.finetune.epochs, "squad_epochs": self.squad_epochs}
        return dataclasses.replace(self.finetune, epochs=epochs[tasks.TASKS[name].epochs_setting])

    def fingerprints(self) -> dict[str, str]:
        """Reads the tasks' labelled data, so that what is missing or another shows at once.

        Returns:
            By task a SHA-256 of its data.

        Raises:
            InputError: A task's data cannot be read.
        """
        return {name: self.task(name).fingerprint() for name in self.tasks}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions(Settings):
    """Settings of a comparison.

    Attributes:
        base: What all runs share. Its loss, student, extraction, seed and evaluation steps
            count for nothing but the settings of cut and scoring.
        students: Sizes of students, every field given.
        loss_options: Arguments by loss.
        evaluate_at: Empty for `default_evaluations`.
        downstream: What the kept students are tried on.

    Raises:
        InputError: A list is empty, repeats itself or names something unknown.
    """

    title = "What is compared"

    losses: tuple[str, ...] = setting(
        ("minilm",),
        lambda: (
            "Losses, each or a sum: minilm+mlm@0.5 trains with MiniLM's and half the weight of "
            f"mlm. {summaries(LOSSES)}"
        ),
        some=True,
        distinct=True,
        free=True,
    )
    students: tuple[StudentSize, ...] = setting(
        MISSING,
        "Students: layers x hidden x heads x intermediate, e.g. 6x384x12x1536.",
        distinct=True,
        free=True,
    )
    arms: tuple[str, ...] = setting(
        ("none", "rand", "impt"),
        lambda: f"How students begin. {summaries(STARTS)}",
        choices=lambda: STARTS,
        some=True,
        distinct=True,
        free=True,
    )
    seeds: tuple[int, ...] = setting(
        (0,), "Every arm is run with each.", least=0, some=True, distinct=True, free=True
    )
    base: DistillOptions = part(
        DistillOptions,
        without=(
            *("student_layers", "student_hidden", "student_heads", "student_intermediate"),
            *("extraction", "importance_metric", "scores", "compensate", "loss", "seed"),
            *("loss_weights", "evaluate_every", "held_out_sequences", "min_fidelity"),
            *("overwrite", "export"),
        ),
    )
    loss_options: Mapping[str, Mapping[str, Any]] = options_of(
        lambda: LOSSES, chosen="losses", names=parse_sum
    )
    evaluate_at: tuple[int, ...] = setting(
        (),
        "Steps after which the held-out loss is measured, besides the first and the last; "
        "default: dense early, to a 100th up to a fifth of the steps, then every 20th part.",
        group="Measuring",
    )
    held_out_sequences: int = setting(
        512, "Held-out sequences behind each loss.", least=1, group="Measuring"
    )
    snapshots: tuple[int, ...] = setting(
        (0, 25, 50, 100),
        "Percentages of the steps; students kept then.",
        least=0,
        most=100,
        some=True,
        distinct=True,
        group="Measuring",
    )
    downstream: DownstreamOptions = dataclasses.field(default_factory=DownstreamOptions)
    together: int = setting(
        8,
        "Most runs that train at once: one pass of the teacher serves them all.",
        least=1,
        free=True,
        group="Run",
    )

    def __post_init__(self) -> None:
        sums = tuple(sum_text(parse_sum(loss)) for loss in self.losses)
        object.__setattr__(self, "losses", sums)  # one text for each sum: it names a directory
        super().__post_init__()
        if not self.students:
            raise InputError(
                "students= is empty. Give layers x hidden x heads x intermediate, e.g. "
                "students=6x384x12x1536."
            )
        if self.base.hardware.strategy in ("multi_worker", "tpu"):
            raise InputError(
                f"strategy={self.base.hardware.strategy} is not for comparisons; use auto, "
                "one_device or mirrored."
            )
        missing = set(self.downstream.finetune_at) - set(self.snapshots)
        if missing:
            raise InputError(
                f"finetune_at={listed(sorted(missing))} is not among snapshots="
                f"{listed(self.snapshots)}; students are kept there only."
            )
        steps = self.base.trainer.steps
        wrong = [at for at in self.evaluate_at if not 1 <= at <= steps]
        if wrong:
            raise InputError(
                f"evaluate_at={listed(wrong)} is outside 1 to steps={steps}; step 0 and the "
                "last step are always evaluated."
            )

    def runs(self) -> Iterator[RunSpec]:
        """Yields every run: the first seed of everything before the second one."""
        for seed in self.seeds:
            for loss in self.losses:
                for size in self.students:
                    for arm in self.arms:
                        yield RunSpec(loss, size, arm, seed)

    def groups(self, specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
        """Cuts runs into those that can train together, at most `together`.

        They have the same batches, and need the teacher itself or its sentence vectors alone.

        Returns:
            Them, in their order as far as possible.
        """
        alike: dict[tuple[int, bool, bool], list[RunSpec]] = {}
        for spec in specs:
            options = self.distill_options(spec, Path())
            kind = spec.seed, options.needs_masked_lm, options.reads_vectors_alone
            alike.setdefault(kind, []).append(spec)
        size = self.together
        return [runs[i : i + size] for runs in alike.values() for i in range(0, len(runs), size)]

    @property
    def held_out_batches(self) -> int:
        """Batches behind each held-out loss."""
        return -(-self.held_out_sequences // self.base.trainer.batch_size)

    def evaluations(self) -> tuple[int, ...]:
        """Steps after which the held-out loss is measured or a student kept, ascending."""
        points = self.evaluate_at or default_evaluations(self.base.trainer.steps)
        return tuple(sorted({*points, *map(self.step_of, self.snapshots)} - {0}))

    def step_of(self, percent: int) -> int:
        """The step at a percentage of the run."""
        return round(self.base.trainer.steps * percent / 100)

    def extraction(self, arm: str) -> ExtractionOptions:
        """Settings of the start of an arm."""
        return dataclasses.replace(self.base.extraction, extraction=arm)

    def distill_options(self, spec: RunSpec, folder: Path) -> DistillOptions:
        """Settings of one run, as a job of its own."""
        base, weights = self.base, parse_sum(spec.loss)
        return dataclasses.replace(
            base,
            output_dir=folder / spec.folder,
            student=spec.size,
            extraction=self.extraction(spec.arm),
            trainer=dataclasses.replace(
                base.trainer,
                seed=spec.seed,
                evaluate_every=0,
                evaluate_at=self.evaluations(),
            ),
            loss=tuple(weights),
            loss_weights=tuple(weights.values()),
            loss_options={name: self.loss_options.get(name, {}) for name in weights},
            held_out_sequences=self.held_out_sequences,
            exports=(),
            settings={},
        )
