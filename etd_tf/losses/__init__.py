"""Distillation losses: pure functions, and the classes that a Distiller takes."""

from typing import Any

from etd_tf.errors import InputError
from etd_tf.losses.base import FeatureLoss, Features, ModelSpec
from etd_tf.losses.masked_lm import (
    LogitsDistillation,
    MaskedLM,
    logits_distillation_loss,
    masked_lm_loss,
)
from etd_tf.losses.minilm import (
    MiniLM,
    MiniLMv2,
    relation_loss,
    relation_scores,
    split_relation_heads,
)
from etd_tf.losses.tinybert import TinyBERT, attention_score_loss, hidden_state_loss

_BY_NAME: dict[str, type[FeatureLoss]] = {
    "tinybert": TinyBERT,
    "minilm": MiniLM,
    "minilmv2": MiniLMv2,
    "mlm": MaskedLM,
}


def get(name: str, **options: Any) -> FeatureLoss:
    """Creates a loss from its flag value.

    Args:
        name: `"tinybert"`, `"minilm"`, `"minilmv2"` or `"mlm"`.
        **options: The constructor's arguments.

    Returns:
        The loss.

    Raises:
        InputError: The name or an option is unknown, or an option's value is not valid.
    """
    if name not in _BY_NAME:
        raise InputError(f"Unknown loss {name!r}. Known losses: {', '.join(_BY_NAME)}.")
    known = _BY_NAME[name]().get_config()
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(
            f"Loss {name!r} has no option {', '.join(unknown)}. "
            f"Its options: {', '.join(known) or 'none'}."
        )
    return _BY_NAME[name](**options)


__all__ = [
    "FeatureLoss",
    "Features",
    "LogitsDistillation",
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
