"""The report of a run as data: everything that `report.json` and `report.html` show."""

import dataclasses
from typing import Any

from etd_tf.evaluation.fidelity import Fidelity
from etd_tf.evaluation.latency import LatencyComparison
from etd_tf.export import Export

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """Size of one model.

    Attributes:
        source: Where it is or came from.
        num_layers: Transformer layers.
        hidden_size: Width of the residual stream.
        num_heads: Attention heads a layer.
        intermediate_size: Feed-forward inner width.
        vocab_size: Word pieces.
        parameters: Trainable scalars, pooler and masked-LM head included where present.
        layer_parameters: Those of the Transformer layers: without embeddings, pooler, head.
        flops: Floating-point operations of a forward pass over one sequence.
        bytes_on_disk: Size of its weights as float32.
    """

    source: str
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    parameters: int
    layer_parameters: int
    flops: int
    bytes_on_disk: int


@dataclasses.dataclass(frozen=True)
class ExtractionFacts:
    """How the student was taken out of the teacher.

    Attributes:
        method: E.g. `"ETD-Impt"`, `"ETD-Rand"`, `"random initialisation"`.
        teacher_layers: The teacher layer, from 1, behind each student layer; empty for
            random initialisation.
        head_mode: `"neurons"` or `"heads"`.
        scores: What the importance scores are, e.g. `"taylor, reconstruction loss"`; empty
            where there are none.
        scored_sequences: Sequences used for scoring.
    """

    method: str
    teacher_layers: tuple[int, ...] = ()
    head_mode: str = "neurons"
    scores: str = ""
    scored_sequences: int = 0


@dataclasses.dataclass(frozen=True)
class Stage:
    """Something that came before the first step.

    Attributes:
        name: What, e.g. `"scoring"`.
        flops: Operations spent on it.
        seconds: Its wall time.
    """

    name: str
    flops: int
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the run took.

    Attributes:
        training_flops: Operations spent on distillation.
        training_seconds: Wall time of distillation, over all sittings where known.
        training_steps: Optimizer steps.
        training_sequences: Sequences seen, repetitions counted.
        tokens_per_second: Training throughput, padding included.
        before: What came before the first step; empty for scores of an earlier run.
    """

    training_flops: int
    training_seconds: float
    training_steps: int
    training_sequences: int
    tokens_per_second: float
    before: tuple[Stage, ...] = ()

    @property
    def total_flops(self) -> int:
        """All stages and distillation together."""
        return sum(stage.flops for stage in self.before) + self.training_flops

    @property
    def total_seconds(self) -> float:
        """All stages and distillation together."""
        return sum(stage.seconds for stage in self.before) + self.training_seconds

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values; a stage is two numbers with its name."""
        values = dataclasses.asdict(self)
        del values["before"]
        for stage in (Stage("scoring", 0), *self.before):
            values |= {f"{stage.name}_flops": stage.flops, f"{stage.name}_seconds": stage.seconds}
        return {
            **values,
            "total_flops": self.total_flops,
            "total_seconds": self.total_seconds,
        }


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the numbers were measured on.

    Attributes:
        cpu: Model name of the processor.
        cores: Cores that the process may use.
        memory_bytes: Main memory; 0 where unknown.
        accelerators: GPUs and TPUs that TensorFlow sees.
        platform: Operating system.
        versions: Versions of Python and of the libraries, by name.
    """

    cpu: str
    cores: int
    memory_bytes: int
    accelerators: tuple[str, ...]
    platform: str
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One number over the steps of training.

    Attributes:
        name: `"loss"`, a loss term's name, `"learning_rate"` or another number of the log.
        split: `"train"` or `"validation"`.
        steps: Optimizer steps.
        values: One value a step in `steps`.
    """

    name: str
    split: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Check:
    """One self-check of the run.

    Attributes:
        name: What was compared.
        value: The error found.
        limit: The largest error accepted.
    """

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the limit (never for a NaN)."""
        return self.value <= self.limit


@dataclasses.dataclass(frozen=True)
class FidelityFacts:
    """How faithful sentence vectors are to the teacher's, on held-out sequences.

    Attributes:
        initial: Those of the student as it was cut out, before its training.
        floor: Those of a student of the same width without a Transformer.
        floor_seconds: What the floor took to make.
    """

    student: Fidelity
    initial: Fidelity
    floor: Fidelity
    floor_seconds: float

    @property
    def beats_floor(self) -> bool:
        """Whether the student finds more neighbours than its floor."""
        return self.student.neighbours > self.floor.neighbours


@dataclasses.dataclass(frozen=True)
class RunReport:
    """Everything that is reported of a run.

    Attributes:
        title: First line of the page.
        created: Date and time, ISO 8601.
        command: What repeats the run.
        sequence_length: Tokens of the sequences behind `flops`, training and latency.
        extraction: How the student was taken out of the teacher.
        loss: Name of the distillation loss.
        latency: Measured times; the first one makes the headline.
        curves: Training and held-out curves.
        cost: What the run took.
        machine: What it ran on.
        data: Facts about the corpus by name, e.g. documents and sequences.
        checks: Self-checks.
        exports: Forms of the student on disk.
        fidelity: How faithful its vectors are; None where the teacher is no sentence encoder.
        flags: Flag values by name.
    """

    title: str
    created: str
    command: str
    sequence_length: int
    teacher: ModelFacts
    student: ModelFacts
    extraction: ExtractionFacts
    loss: str
    latency: tuple[LatencyComparison, ...]
    curves: tuple[Curve, ...]
    cost: Cost
    machine: Machine
    data: dict[str, str | int | float]
    checks: tuple[Check, ...] = ()
    exports: tuple[Export, ...] = ()
    fidelity: FidelityFacts | None = None
    flags: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def compression(self) -> float:
        """Parameters of the teacher over parameters of the student."""
        return self.teacher.parameters / self.student.parameters

    @property
    def flops_ratio(self) -> float:
        """Operations of the teacher over operations of the student."""
        return self.teacher.flops / self.student.flops

    @property
    def held_out(self) -> tuple[float, float] | None:
        """First and last held-out loss, or None without held-out data."""
        for curve in self.curves:
            if curve.split == "validation" and curve.name == "loss" and curve.values:
                return curve.values[0], curve.values[-1]
        return None

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of `report.json`: all fields and what follows from them."""
        held_out = self.held_out
        values = dataclasses.asdict(self)
        for latency, shown in zip(self.latency, values["latency"], strict=True):
            shown["speedup"] = latency.speedup
        for check, shown in zip(self.checks, values["checks"], strict=True):
            shown["passed"] = check.passed
        values["cost"] = self.cost.to_dict()
        headline = {
            "compression": self.compression,
            "flops_ratio": self.flops_ratio,
            "speedup": self.latency[0].speedup if self.latency else None,
            "held_out_loss_before": held_out[0] if held_out else None,
            "held_out_loss_after": held_out[1] if held_out else None,
            "fidelity_neighbours": self.fidelity.student.neighbours if self.fidelity else None,
        }
        return {"schema_version": SCHEMA_VERSION, "headline": headline, **values}
