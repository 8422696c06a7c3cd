"""Scoring the units of a teacher: which channels, neurons and head dims matter."""

from collections.abc import Mapping

import keras

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.extraction.metrics import METRICS, Metric
from etd_tf.extraction.objectives import make_objective
from etd_tf.extraction.scores import UnitScores
from etd_tf.types import Array


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
            and `padding_mask` (default: the tokens that are not padding). None
            where the metric reads no text.
        metric: A name in `METRICS`; `"taylor"` is ETD-Impt's.
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
    chosen = _check_settings(metric, batch_size, probes, seed)
    objective = make_objective(teacher, loss, seed=seed) if chosen.reads_loss else None
    inputs = ScoringInputs.from_examples(examples, teacher.config) if chosen.reads_text else None
    values = chosen.score(teacher, inputs, objective, batch_size=batch_size, probes=probes)
    return UnitScores(
        **values._asdict(),
        metric=metric,
        loss=objective.name if objective else "none",
        num_examples=inputs.num_examples if inputs else 0,
        probes=probes,
        seed=seed,
        teacher_fingerprint=teacher.fingerprint(),
    )


def _check_settings(metric: str, batch_size: int, probes: int, seed: int) -> Metric:
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
    if METRICS[metric].reads_text and keras.backend.backend() != "tensorflow":
        raise InputError(
            f"Scoring runs on TensorFlow, but Keras uses {keras.backend.backend()}. "
            "Set KERAS_BACKEND=tensorflow, or load scores saved earlier."
        )
    return METRICS[metric]
