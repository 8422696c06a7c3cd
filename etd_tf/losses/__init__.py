"""Distillation losses: pure functions, and the objects that a Distiller takes."""

from typing import Any

from etd_tf.errors import InputError
from etd_tf.losses.base import Features, Loss, ModelSpec
from etd_tf.losses.minilm import MiniLM, relation_loss, relation_scores
from etd_tf.losses.minilmv2 import MiniLMv2, split_relation_heads
from etd_tf.losses.mlm import (
    LogitsDistillation,
    MaskedLM,
    logits_distillation_loss,
    masked_lm_loss,
)
from etd_tf.losses.tinybert import TinyBERT, attention_score_loss, hidden_state_loss
from etd_tf.settings import settings_of

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss for loss in (TinyBERT, MiniLM, MiniLMv2, LogitsDistillation)
}
"""Every loss that a command can be given, by name."""


def get(name: str, **options: Any) -> Loss:
    """Creates a loss by its name.

    Args:
        name: A name in `LOSSES`.
        **options: Its fields.

    Returns:
        The loss.

    Raises:
        InputError: The name or an option is unknown, or an option's value is not valid.
    """
    if name not in LOSSES:
        raise InputError(f"Unknown loss {name!r}. Known losses: {', '.join(LOSSES)}.")
    known = [option.name for option in settings_of(LOSSES[name])]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(
            f"Loss {name!r} has no option {', '.join(unknown)}. "
            f"Its options: {', '.join(known) or 'none'}."
        )
    return LOSSES[name](**options)


__all__ = [
    "LOSSES",
    "Features",
    "LogitsDistillation",
    "Loss",
    "MaskedLM",
    "MiniLM",
    "MiniLMv2",
    "ModelSpec",
    "TinyBERT",
    "attention_score_loss",
    "get",
    "hidden_state_loss",
    "logits_distillation_loss",
    "masked_lm_loss",
    "relation_loss",
    "relation_scores",
    "split_relation_heads",
]
