"""Scoring the units of a teacher: which channels, neurons and head dims matter."""

import math
from collections.abc import Mapping

import keras

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.gates import UnitValues
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.extraction.metrics import (
    UnitScorer,
    activation_scorer,
    dynabert_scorer,
    taylor_scorer,
    weight_magnitude,
)
from etd_tf.extraction.objectives import Objective, make_objective
from etd_tf.extraction.scores import UnitScores
from etd_tf.progress import track
from etd_tf.types import Array

METRICS = ("taylor", "magnitude", "activation", "dynabert")
_STEPS_FOR_XLA = 8  # fewer batches take less time than compiling for them


def score_units(
    teacher: Checkpoint,
    examples: Mapping[str, Array] | None,
    *,
    metric: str = "taylor",
    loss: str = "auto",
    batch_size: int = 32,
    probes: int = 1,
    seed: int = 0,
) -> UnitScores:
    """Scores every prunable unit of a teacher.

    The scores depend on the set of examples, not on their order, the batch size (except
    for `dynabert`, which is a per-batch metric) or the padding.

    Args:
        teacher: The model to score; it is not changed.
        examples: Integers `[n, T]`: `token_ids`, and optionally `segment_ids` (default 0)
            and `padding_mask` (default: the tokens that are not padding). None for
            `magnitude`, which reads no text.
        metric: `"taylor"` (ETD-Impt's gate gradients), `"magnitude"`, `"activation"`
            (Minitron) or `"dynabert"`.
        loss: Of the gradient metrics: `"mlm"`, `"reconstruction"`, or `"auto"`, which is
            masked-LM where the teacher has a masked-LM head.
        batch_size: Examples a step.
        probes: Random probes or maskings of each example; more reduce the noise at
            proportional cost.
        seed: Seed of probes and maskings.

    Returns:
        The scores, bound to this teacher by its fingerprint.

    Raises:
        InputError: The examples do not fit the teacher, a setting is unknown, or the
            masked-LM score is asked of a teacher without masked-LM head or tokenizer.
    """
    _check_settings(metric, batch_size, probes, seed)
    by_gradient = metric in ("taylor", "dynabert")
    objective = make_objective(teacher, loss, seed=seed) if by_gradient else None
    num_examples = 0
    if metric == "magnitude":
        values = weight_magnitude(teacher.parameters(), teacher.config)
    else:
        inputs = ScoringInputs.from_examples(examples, teacher.config)
        num_examples = inputs.num_examples
        rounds = probes if objective else 1
        steps = rounds * math.ceil(inputs.num_examples / batch_size)
        scorer = _make_scorer(teacher, metric, objective, jit_compile=steps >= _STEPS_FOR_XLA)
        values = _run(scorer, inputs, objective, batch_size=batch_size, rounds=rounds)
    return UnitScores(
        **values._asdict(),
        metric=metric,
        loss=objective.name if objective else "none",
        num_examples=num_examples,
        probes=probes,
        seed=seed,
        teacher_fingerprint=teacher.fingerprint(),
    )


def _check_settings(metric: str, batch_size: int, probes: int, seed: int) -> None:
    if metric not in METRICS:
        raise InputError(
            f"importance_metric={metric!r} is not known. Use one of {', '.join(METRICS)}."
        )
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("probes", probes, 1),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value!r} is not a whole number >= {least}.")
    if metric != "magnitude" and keras.backend.backend() != "tensorflow":
        raise InputError(
            f"Scoring runs on TensorFlow, but Keras uses {keras.backend.backend()}. "
            "Set KERAS_BACKEND=tensorflow, or load scores saved earlier."
        )


def _make_scorer(
    teacher: Checkpoint, metric: str, objective: Objective | None, *, jit_compile: bool
) -> UnitScorer:
    if objective is None:
        return activation_scorer(teacher, jit_compile=jit_compile)
    make = taylor_scorer if metric == "taylor" else dynabert_scorer
    return make(teacher, objective, jit_compile=jit_compile)


def _run(
    scorer: UnitScorer,
    inputs: ScoringInputs,
    objective: Objective | None,
    *,
    batch_size: int,
    rounds: int,
) -> UnitValues:
    with track("Scoring units", inputs.num_examples * rounds, "examples") as progress:
        for probe in range(rounds):
            for batch in inputs.batches(batch_size):
                tensors = objective.prepare(batch, probe) if objective else batch.inputs
                scorer.accumulate(tensors, batch.weights)
                progress.advance(batch.size)
    return UnitValues(*(part / rounds for part in scorer.result()))
