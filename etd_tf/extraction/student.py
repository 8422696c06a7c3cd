"""Students: cut out of a teacher by a plan, or freshly initialised."""

import numpy as np
from absl import logging

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.plan import ExtractionPlan, same_shapes
from etd_tf.extraction.slicing import slice_parameters
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.pooling import Pooling
from etd_tf.modeling.structure import parameter_shapes
from etd_tf.types import Array, Parameters

_STDDEV = 0.02  # BERT's initializer_range


def extract(teacher: Checkpoint, plan: ExtractionPlan) -> Checkpoint:
    """Cuts a student out of a teacher.

    The same plan and teacher give the same weights bit for bit; the teacher is neither
    changed nor shared. Pooler and masked-LM head are cut where the teacher has them.

    Args:
        teacher: The model to cut.
        plan: A plan made for it, or for any teacher of its shapes.

    Returns:
        The student, with the teacher's tokenizer, pooling and Keras dtype policy.

    Raises:
        InputError: The plan is for other shapes or for another teacher.

    Source: Chen et al. 2021 (arXiv 2104.11928), width-wise extraction, layer selection.
    """
    parameters = check_plan(teacher, plan)
    _report_head(teacher)
    return Checkpoint(
        plan.student_config,
        slice_parameters(parameters, plan),
        tokenizer=teacher.tokenizer,
        source=f"{teacher.source or 'a teacher'}, extracted ({plan.extraction})",
        dtype=teacher.dtype,
        pooling=_pooling(teacher, plan.student_config),
    )


def check_plan(teacher: Checkpoint, plan: ExtractionPlan) -> Parameters:
    """Checks that a plan applies to a teacher.

    Returns:
        The teacher's weights.

    Raises:
        InputError: The plan is for other shapes or for another teacher.
    """
    if not same_shapes(teacher.config, plan.teacher_config):
        raise InputError(
            f"The plan is for a teacher of other shapes: {plan.teacher_config}, but this teacher "
            f"is {teacher.config}. Make a plan for this teacher."
        )
    expected = plan.teacher_fingerprint
    if expected is not None:
        actual = teacher.fingerprint()
        if actual != expected:
            raise InputError(
                f"The plan was made from the scores of another teacher (fingerprint "
                f"{expected[:12]}, this one has {actual[:12]}). Score this teacher again, or "
                "load the teacher that the plan belongs to."
            )
    return teacher.parameters()


def initial_student(teacher: Checkpoint, student_config: BertConfig, *, seed: int) -> Checkpoint:
    """Makes a randomly initialised student: the baseline without extraction.

    Kernels and embeddings are normal with standard deviation 0.02, truncated at two
    deviations, as in BERT; biases are 0 and LayerNorm scales 1.

    Args:
        teacher: Gives the tokenizer, the pooling, the dtype policy and which heads there are.
        student_config: The student's architecture, with the teacher's vocabulary.
        seed: Determines every weight.

    Raises:
        InputError: The vocabularies differ, or the seed is not a whole number >= 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r} is not a whole number >= 0.")
    if student_config.vocab_size != teacher.config.vocab_size:
        raise InputError(
            f"The student's vocab_size={student_config.vocab_size} differs from the teacher's. "
            f"They share a tokenizer: use vocab_size={teacher.config.vocab_size}."
        )
    _report_head(teacher)
    generator = np.random.default_rng(seed)
    shapes = parameter_shapes(
        student_config, pooler=teacher.has_pooler, mlm_head=teacher.has_mlm_head
    )
    return Checkpoint(
        student_config,
        {name: _initial(name, shape, generator) for name, shape in shapes.items()},
        tokenizer=teacher.tokenizer,
        source=f"random initialisation, seed {seed}",
        dtype=teacher.dtype,
        pooling=_pooling(teacher, student_config),
    )


def _report_head(teacher: Checkpoint) -> None:
    if teacher.task_head is not None:
        logging.warning(
            "%s: the fine-tuned head %s stays behind; the student has none.",
            teacher.source or "The teacher",
            teacher.task_head.name,
        )


def _pooling(teacher: Checkpoint, config: BertConfig) -> Pooling | None:
    return None if teacher.pooling is None else teacher.pooling.for_student(config.hidden_size)


def _initial(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    if name.endswith(".gamma"):
        return np.ones(shape, np.float32)
    if name.endswith(("bias", ".beta")):
        return np.zeros(shape, np.float32)
    values = generator.standard_normal(shape, dtype=np.float32)
    outside = np.abs(values) > 2.0
    while outside.any():
        values[outside] = generator.standard_normal(int(outside.sum()), dtype=np.float32)
        outside = np.abs(values) > 2.0
    return np.float32(_STDDEV) * values
