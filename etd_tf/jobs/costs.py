"""What jobs cost, counted and forecast: one home for operations, memory, disk and time.

The forward pass is counted by `BertConfig.flops`, what comes before the first step by the
start that it belongs to.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from etd_tf.extraction.starts import Amount, Work
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.home import expand
from etd_tf.text.record_directories import open_records
from etd_tf.text.records import MANIFEST, TRAIN
from etd_tf.types import Array

if TYPE_CHECKING:
    from etd_tf.checkpoints import Checkpoint
    from etd_tf.jobs.compare_types import CompareOptions, RunSpec
    from etd_tf.jobs.distill_types import DistillOptions

_FLOAT_BYTES = 4
_STUDENT_COPIES = 4  # weights, gradients and AdamW's two moments
_STATE_COPIES = 3  # of them, what a checkpoint holds
_GEMM_SIZE, _GEMM_SECONDS = 1024, 0.5
_START_SECONDS = 10.0  # of a run: models are built and its step is compiled
STEP_EFFICIENCY = 0.65
"""Share of the matrix-product rate that whole steps reached on a CPU (benchmarks/step.py)."""


def training_flops(
    teacher: BertConfig,
    student: BertConfig,
    *,
    sequences: int,
    sequence_length: int,
    taught: int | None = None,
) -> int:
    """Operations of distillation: a teacher forward, a student forward and backward.

    Args:
        teacher: The teacher.
        student: The student.
        sequences: Sequences seen, repetitions counted.
        sequence_length: Tokens a sequence.
        taught: Sequences that the teacher reads; None for all.

    Returns:
        taught * C_teacher + sequences * 3 * C_student; a backward pass counts as two forwards.
    """
    taught = sequences if taught is None else min(taught, sequences)
    return taught * teacher.flops(sequence_length) + sequences * 3 * student.flops(sequence_length)


def _caches_vectors(options: "DistillOptions") -> bool:
    return options.cache_vectors and options.reads_vectors_alone and not options.masking_rate


def _taught(options: "DistillOptions") -> int | None:
    """Sequences that the teacher reads at most; None where that is not known, or it reads all."""
    corpus = options.corpus
    if not _caches_vectors(options):
        return None
    if corpus.is_text or not (expand(corpus.corpus[0]) / MANIFEST).is_file():
        return None  # counting takes as long as preparing
    return open_records(corpus.corpus[0]).num_examples(TRAIN)


@dataclasses.dataclass(frozen=True)
class CostForecast:
    """Expected cost of a distillation.

    Attributes:
        teacher: The teacher's sizes.
        student: The student's sizes.
        teacher_parameters: Its trainable scalars.
        student_parameters: Its trainable scalars.
        before: Operations before the first step, by stage.
        training_flops: Operations of all distillation steps.
        tokens: Tokens seen, repetitions counted.
        memory_bytes: Weights, optimizer state and the step's activations, roughly.
        disk_bytes: Checkpoints and the student's directory.
        seconds: Expected time of all that on this machine.
        peak_flops: Matrix-product rate measured just now, FLOP/s.
    """

    teacher: BertConfig
    student: BertConfig
    teacher_parameters: int
    student_parameters: int
    before: Mapping[str, int]
    training_flops: int
    tokens: int
    memory_bytes: int
    disk_bytes: int
    seconds: float
    peak_flops: float


def forecast_cost(
    options: "DistillOptions", teacher: "Checkpoint", student: BertConfig
) -> CostForecast:
    """Forecasts a job's cost from its sizes and this machine's matrix-product rate.

    Returns:
        The forecast; times are rough.
    """
    length, trainer = options.corpus.sequence_length, options.trainer
    sequences = trainer.steps * trainer.batch_size
    extraction = options.extraction
    amount = Amount(extraction.importance_examples, length)
    before = extraction.start.flops(Work(teacher, student, extraction), amount)
    training = training_flops(
        teacher.config,
        student,
        sequences=sequences,
        sequence_length=length,
        taught=_taught(options),
    )
    parameters = _parameters(teacher, student)
    weights = _FLOAT_BYTES * (teacher.num_parameters() + _STUDENT_COPIES * parameters)
    local = trainer.batch_size // trainer.gradient_accumulation
    checkpoint = _FLOAT_BYTES * _STATE_COPIES * parameters
    peak = measure_gemm_rate()
    return CostForecast(
        teacher=teacher.config,
        student=student,
        teacher_parameters=teacher.num_parameters(),
        student_parameters=parameters,
        before=before,
        training_flops=training,
        tokens=sequences * length,
        memory_bytes=weights + local * _activation_bytes(student, length),
        disk_bytes=(trainer.keep_checkpoints + 1) * checkpoint + _FLOAT_BYTES * parameters,
        seconds=(sum(before.values()) + training) / (peak * STEP_EFFICIENCY),
        peak_flops=peak,
    )


def _parameters(teacher: "Checkpoint", student: BertConfig) -> int:
    """Trainable scalars of a student with the teacher's pooler and head."""
    return student.num_parameters(pooler=teacher.has_pooler, mlm_head=teacher.has_mlm_head)


def _activation_bytes(config: BertConfig, length: int) -> int:
    """Float32 tensors that one training sequence keeps for the backward pass, roughly."""
    linear = length * (12 * config.hidden_size + 4 * config.intermediate_size)
    attention = 4 * config.num_heads * length * length
    return _FLOAT_BYTES * config.num_layers * (linear + attention)


@dataclasses.dataclass(frozen=True)
class ComparisonForecast:
    """Expected cost of a comparison.

    Attributes:
        runs: Runs asked for.
        finished: Those of them that are finished already.
        flops: Operations of the others, with what comes before their first steps.
        evaluation_flops: Operations of measuring their held-out losses.
        disk_bytes: Students that will be kept.
        seconds: Expected time, downstream tasks not included.
        peak_flops: Matrix-product rate measured just now, FLOP/s.
    """

    runs: int
    finished: int
    flops: int
    evaluation_flops: int
    disk_bytes: int
    seconds: float
    peak_flops: float


def forecast_runs(
    options: "CompareOptions",
    teacher: "Checkpoint",
    missing: "Mapping[RunSpec, BertConfig]",
    *,
    finished: int,
) -> ComparisonForecast:
    """Forecasts the cost of the runs that a comparison lacks.

    Returns:
        The forecast; times are rough.
    """
    length, trainer = options.base.corpus.sequence_length, options.base.trainer
    sequences = trainer.steps * trainer.batch_size
    runs = {spec: options.distill_options(spec, Path()) for spec in missing}
    taught = {spec: min(_taught(run) or sequences, sequences) for spec, run in runs.items()}
    flops = _before_all(options, teacher, missing) + sum(
        training_flops(
            teacher.config,
            config,
            sequences=sequences,
            sequence_length=length,
            taught=taught[spec],
        )
        for spec, config in missing.items()
    )
    held_out = options.held_out_batches * trainer.batch_size * (len(options.evaluations()) + 1)
    passes = sum(teacher.config.flops(length) + c.flops(length) for c in missing.values())
    # FLOPs are counted as if each run had its own teacher passes; really a group shares them,
    # and all groups share vectors that were computed once.
    firsts = [group[0] for group in options.groups(list(missing))]
    cached = [spec for spec in firsts if _caches_vectors(runs[spec])]
    passed = [spec for spec in firsts if spec not in cached] + cached[:1]
    saved = sum(taught.values()) - sum(taught[spec] for spec in passed)
    shared = saved * teacher.config.flops(length)
    parameters = sum(_parameters(teacher, config) for config in missing.values())
    peak = measure_gemm_rate()
    work = flops - shared + held_out * passes
    return ComparisonForecast(
        runs=len(missing) + finished,
        finished=finished,
        flops=flops,
        evaluation_flops=held_out * passes,
        disk_bytes=_FLOAT_BYTES * len({*options.snapshots, 100}) * parameters,
        seconds=_START_SECONDS * len(missing) + work / (peak * STEP_EFFICIENCY),
        peak_flops=peak,
    )


def _before_all(
    options: "CompareOptions", teacher: "Checkpoint", missing: "Mapping[RunSpec, BertConfig]"
) -> int:
    """Operations before first steps; scores of one metric are made once for all runs."""
    amount = Amount(
        options.base.extraction.importance_examples, options.base.corpus.sequence_length
    )
    total, scored = 0, set()
    for spec, config in missing.items():
        extraction = options.extraction(spec.arm)
        stages = extraction.start.flops(Work(teacher, config, extraction), amount)
        metric = extraction.start.metric(extraction)
        if metric in scored:
            stages.pop("scoring", None)
        scored.add(metric)
        total += sum(stages.values())
    return total


def measure_gemm_rate() -> float:
    """Measures this machine's float32 matrix-product rate on the training device, FLOP/s."""
    from keras import ops

    values: Array = np.ones((_GEMM_SIZE, _GEMM_SIZE), np.float32)
    matrix = ops.convert_to_tensor(values)
    ops.convert_to_numpy(ops.matmul(matrix, matrix))
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < _GEMM_SECONDS:
        ops.convert_to_numpy(ops.matmul(matrix, matrix)[0, 0])
        count += 1
    return count * 2 * _GEMM_SIZE**3 / (time.perf_counter() - started)
