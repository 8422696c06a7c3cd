"""What a distillation will cost, before it starts."""

import dataclasses
import time

import numpy as np

from etd_tf.checkpoints import Checkpoint
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.extraction_costs import extraction_flops
from etd_tf.modeling.config import BertConfig
from etd_tf.reporting import training_flops
from etd_tf.types import Array

_FLOAT_BYTES = 4
_STUDENT_COPIES = 4  # weights, gradients and AdamW's two moments
_STATE_COPIES = 3  # of them, what a checkpoint holds
_GEMM_SIZE, _GEMM_SECONDS = 1024, 0.5
STEP_EFFICIENCY = 0.65
"""Share of the matrix-product rate that whole steps reached on a CPU (benchmarks/step.py)."""


@dataclasses.dataclass(frozen=True)
class CostForecast:
    """Expected cost of a distillation.

    Attributes:
        teacher: The teacher's sizes.
        student: The student's sizes.
        teacher_parameters: Its trainable scalars.
        student_parameters: Its trainable scalars.
        scoring_flops: Operations of importance scoring.
        compensation_flops: Operations of compensating cut units.
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
    scoring_flops: int
    compensation_flops: int
    training_flops: int
    tokens: int
    memory_bytes: int
    disk_bytes: int
    seconds: float
    peak_flops: float


def forecast_cost(
    options: DistillOptions, teacher: Checkpoint, student: BertConfig
) -> CostForecast:
    """Forecasts a job's cost from its sizes and this machine's matrix-product rate.

    Args:
        options: The job's settings.
        teacher: The teacher.
        student: The student's sizes.

    Returns:
        The forecast; times are rough.
    """
    length, trainer = options.corpus.sequence_length, options.trainer
    sequences = trainer.steps * trainer.batch_size
    before = extraction_flops(
        *(options.extraction, teacher, student),
        sequences=options.extraction.importance_examples,
        sequence_length=length,
    )
    training = training_flops(teacher.config, student, sequences=sequences, sequence_length=length)
    parameters = student.num_parameters(
        pooler=teacher.has_pooler, mlm_head=teacher.mlm_head is not None
    )
    weights = _FLOAT_BYTES * (teacher.num_parameters() + _STUDENT_COPIES * parameters)
    local = trainer.batch_size // trainer.gradient_accumulation
    checkpoint = _FLOAT_BYTES * _STATE_COPIES * parameters
    peak = measure_gemm_rate()
    return CostForecast(
        teacher=teacher.config,
        student=student,
        teacher_parameters=teacher.num_parameters(),
        student_parameters=parameters,
        scoring_flops=before.scoring,
        compensation_flops=before.compensation,
        training_flops=training,
        tokens=sequences * length,
        memory_bytes=weights + local * _activation_bytes(student, length),
        disk_bytes=(trainer.keep_checkpoints + 1) * checkpoint + _FLOAT_BYTES * parameters,
        seconds=(before.total + training) / (peak * STEP_EFFICIENCY),
        peak_flops=peak,
    )


def _activation_bytes(config: BertConfig, length: int) -> int:
    """Float32 tensors that one training sequence keeps for the backward pass, roughly."""
    linear = length * (12 * config.hidden_size + 4 * config.intermediate_size)
    attention = 4 * config.num_heads * length * length
    return _FLOAT_BYTES * config.num_layers * (linear + attention)


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
