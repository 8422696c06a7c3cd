"""Settings of a comparison: which students, initialised how, distilled under which losses."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.extraction.starts import STARTS, ExtractionOptions
from etd_tf.jobs.compare_tasks import DownstreamOptions
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import StudentSize
from etd_tf.losses import LOSSES

_GROWTH = 1.5  # between early evaluations
_PARTS = 20  # equal parts of the run, each followed by an evaluation
# Where an extracted student passes a random one's last loss, savings are told to the percent.
_FINE_PARTS, _FINE_SHARE = 100, 0.2


def parse_student(text: str) -> StudentSize:
    """Reads `LAYERSxHIDDENxHEADSxINTERMEDIATE`, e.g. `6x384x12x1536`.

    Args:
        text: The sizes.

    Returns:
        The sizes.

    Raises:
        InputError: The text has another form.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)x(\d+)", text.strip())
    sizes = [int(size) for size in match.groups()] if match else []
    if not sizes or min(sizes) < 1:
        raise InputError(
            f"--students={text!r}: expected LAYERSxHIDDENxHEADSxINTERMEDIATE, all at least 1, "
            "e.g. 6x384x12x1536; several with commas."
        )
    return StudentSize(*sizes)


def student_name(size: StudentSize) -> str:
    """The inverse of `parse_student`."""
    return f"{size.layers}x{size.hidden}x{size.heads}x{size.intermediate}"


def default_evaluations(steps: int) -> tuple[int, ...]:
    """Steps after which the held-out loss is measured.

    Dense early, then every 100th part up to a fifth of the run, then every 20th part.

    Args:
        steps: Length of the run.

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
        loss: The distillation loss.
        size: The student's sizes.
        arm: Its initialisation, a name in `STARTS`.
        seed: The seed.
    """

    loss: str
    size: StudentSize
    arm: str
    seed: int

    @property
    def folder(self) -> str:
        """Its run directory below the comparison's."""
        return f"{self.loss}-{student_name(self.size)}/{self.arm}-seed{self.seed}"

    @property
    def name(self) -> str:
        """Its name for readers."""
        return f"{self.arm} of {self.loss} {student_name(self.size)}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Settings of a comparison.

    Attributes:
        base: What all runs share. Its loss, student, extraction, seed and evaluation steps
            count for nothing but the settings of cut and scoring.
        losses: Distillation losses.
        students: Sizes of students, every field given.
        arms: Names in `STARTS`.
        seeds: Seeds; every arm is run with each.
        loss_options: Arguments by loss.
        evaluate_at: Steps after which the held-out loss is measured; empty for
            `default_evaluations`.
        held_out_sequences: Held-out sequences behind each loss.
        snapshots: Percentages of the steps after which a student is kept.
        downstream: What the kept students are tried on.
        together: Most runs that train at the same time, sharing the teacher's passes.

    Raises:
        InputError: A list is empty, repeats itself or names something unknown.
    """

    base: DistillOptions
    losses: tuple[str, ...]
    students: tuple[StudentSize, ...]
    arms: tuple[str, ...] = ("none", "rand", "impt")
    seeds: tuple[int, ...] = (0,)
    loss_options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    evaluate_at: tuple[int, ...] = ()
    held_out_sequences: int = 512
    snapshots: tuple[int, ...] = (0, 25, 50, 100)
    downstream: DownstreamOptions = dataclasses.field(default_factory=DownstreamOptions)
    together: int = 8

    def __post_init__(self) -> None:
        if self.together < 1:
            raise InputError(f"--together={self.together}: expected a whole number >= 1.")
        _check_known("arms", self.arms, tuple(STARTS))
        _check_known("losses", self.losses, tuple(LOSSES))
        for name in ("students", "seeds", "snapshots"):
            values = getattr(self, name)
            _check_list(name, values, least=1)
        if min(self.seeds) < 0:
            raise InputError(f"--seeds={_listed(self.seeds)}: expected whole numbers >= 0.")
        if self.base.hardware.strategy in ("multi_worker", "tpu"):
            raise InputError(
                f"--strategy={self.base.hardware.strategy} is not for comparisons; use auto, "
                "one_device or mirrored."
            )
        self._check_steps()

    def _check_steps(self) -> None:
        percents = {"snapshots": self.snapshots, "finetune_at": self.downstream.finetune_at}
        for name, values in percents.items():
            _check_list(name, values, least=1)
            if not all(0 <= value <= 100 for value in values):
                raise InputError(f"--{name}={_listed(values)}: expected percentages, 0 to 100.")
        missing = set(self.downstream.finetune_at) - set(self.snapshots)
        if missing:
            raise InputError(
                f"--finetune_at={_listed(sorted(missing))} is not among --snapshots="
                f"{_listed(self.snapshots)}; students are kept there only."
            )
        steps = self.base.trainer.steps
        wrong = [at for at in self.evaluate_at if not 1 <= at <= steps]
        if wrong:
            raise InputError(
                f"--evaluate_at={_listed(wrong)} is outside 1 to --steps={steps}; step 0 and the "
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
        """Cuts runs into those that can train together: the same batches, at most `together`.

        Args:
            specs: Runs.

        Returns:
            Them, in their order as far as possible.
        """
        alike: dict[tuple[int, bool], list[RunSpec]] = {}
        for spec in specs:
            masks = self.distill_options(spec, Path()).needs_masked_lm
            alike.setdefault((spec.seed, masks), []).append(spec)
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
        """Settings of one run, as a job of its own.

        Args:
            spec: The run.
            folder: The comparison's directory.

        Returns:
            The settings.
        """
        base = self.base
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
            loss=spec.loss,
            loss_options=dict(self.loss_options.get(spec.loss, {})),
            exports=(),
        )


def _check_known(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    _check_list(name, values, least=1)
    unknown = [value for value in values if value not in known]
    if unknown:
        raise InputError(f"--{name}={_listed(unknown)} is unknown; choose from {_listed(known)}.")


def _check_list(name: str, values: Sequence[Any], *, least: int = 0) -> None:
    if len(values) < least or len(set(values)) != len(values):
        shown = [student_name(v) if isinstance(v, StudentSize) else v for v in values]
        raise InputError(
            f"--{name}={_listed(shown)}: expected at least {least} value(s), none twice."
        )


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
