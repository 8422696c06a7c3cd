"""Distillation losses: pure functions, and the objects that a Distiller takes."""

import math
from collections.abc import Mapping
from typing import Any

from etd_tf.errors import InputError
from etd_tf.losses.base import Features, Loss, ModelSpec
from etd_tf.losses.embedding import Embedding, embedding_loss
from etd_tf.losses.minilm import MiniLM, relation_loss, relation_scores
from etd_tf.losses.minilmv2 import MiniLMv2, split_relation_heads
from etd_tf.losses.mlm import (
    LogitsDistillation,
    MaskedLM,
    logits_distillation_loss,
    masked_lm_loss,
)
from etd_tf.losses.similarity import Similarity, similarity_loss
from etd_tf.losses.states import States, states_loss
from etd_tf.losses.tinybert import TinyBERT, attention_score_loss, hidden_state_loss
from etd_tf.settings import check_known

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (TinyBERT, MiniLM, MiniLMv2, LogitsDistillation, Embedding, States, Similarity)
}
"""Every loss that a command can be given, by name."""


def get(name: str, **options: Any) -> Loss:
    """Creates a loss by its name.

    Args:
        name: A name in `LOSSES`.
        **options: Its fields.

    Raises:
        InputError: The name or an option is unknown, or an option's value is not valid.
    """
    if name not in LOSSES:
        raise InputError(f"Unknown loss {name!r}. Known losses: {', '.join(LOSSES)}.")
    check_known(f"Loss {name!r}", LOSSES[name], options)
    return LOSSES[name](**options)


def parse_sum(text: str) -> dict[str, float]:
    """Reads a weighted sum of losses, such as `minilm+mlm@0.5`.

    Args:
        text: Names with `+` between them; `@` and a number after a name is its weight.

    Returns:
        Weights by name, in order; 1 where the text gives none.

    Raises:
        InputError: A name is unknown or stands twice, or a weight is no positive number.
    """
    terms = [term.strip().partition("@") for term in text.split("+")]
    unknown = [name for name, _, _ in terms if name not in LOSSES]
    if unknown:
        raise InputError(
            f"losses={', '.join(unknown)} is unknown; choose from {', '.join(LOSSES)}, with + "
            "between losses that are summed."
        )
    weights = {name: _weight(text, given) if at else 1.0 for name, at, given in terms}
    if len(weights) < len(terms):
        raise InputError(
            f"losses={text} names a loss twice. Name it once, with a weight: minilm@2."
        )
    return weights


def _weight(text: str, given: str) -> float:
    try:
        weight = float(given)
    except ValueError:
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise InputError(
            f"losses={text}: the weight {given!r} is no positive number. Write minilm+mlm@0.5."
        )
    return weight


def sum_text(weights: Mapping[str, float]) -> str:
    """Writes a weighted sum of losses, given as weights by name, as `parse_sum` reads it."""
    terms = (name if weight == 1 else f"{name}@{weight!r}" for name, weight in weights.items())
    return "+".join(terms)


__all__ = [
    "LOSSES",
    "Embedding",
    "Features",
    "LogitsDistillation",
    "Loss",
    "MaskedLM",
    "MiniLM",
    "MiniLMv2",
    "ModelSpec",
    "Similarity",
    "States",
    "TinyBERT",
    "attention_score_loss",
    "embedding_loss",
    "get",
    "hidden_state_loss",
    "logits_distillation_loss",
    "masked_lm_loss",
    "parse_sum",
    "relation_loss",
    "relation_scores",
    "similarity_loss",
    "split_relation_heads",
    "states_loss",
    "sum_text",
]
