"""Ids that pick rows of a model's tables: what is refused before one is taken for another.

A gather takes negative ids from the end of a table; beyond its other end a GPU gives zeros and
XLA the last row. So ids are checked where they enter, while they are ordinary arrays.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.modeling.config import BertConfig
from etd_tf.types import Array, Tensor

IDS = ("token_ids", "segment_ids", "masked_lm_ids", "masked_lm_positions")
"""Inputs of a batch that pick rows."""
_ADVICE = {
    "token_ids": "Encode texts with the model's own tokenizer, and pad with pad_token_id={pad} "
    "and a padding_mask of 0.",
    "segment_ids": "Give the segment of each token, 0 where there is one text.",
    "masked_lm_ids": "Give the original token of each masked position; targets that are only "
    "filling have id 0 and masked_lm_weights of 0.",
    "masked_lm_positions": "Count positions in each sequence from 0.",
}


def check_ids(inputs: Mapping[str, Any], config: BertConfig, where: str = "The input") -> None:
    """Refuses ids that a model's tables do not have, and sequences that are too long.

    Values of symbolic tensors are not known yet and pass; see `refusable`.

    Args:
        inputs: Arrays or tensors by name: `token_ids` and `segment_ids` `[B, T]`,
            `masked_lm_ids` and `masked_lm_positions` `[B, P]`; others are not looked at.
        config: The model's architecture.
        where: Where they come from, for the message.

    Raises:
        InputError: An id is negative or too large; the message says which and where.
    """
    width = np.shape(inputs["token_ids"])[-1:] if "token_ids" in inputs else ()
    for name in IDS:
        values = None if inputs.get(name) is None else known_values(inputs[name])
        if values is None:
            continue
        if name == "token_ids":
            check_length(values.shape[-1], config, where)
        limit = _limits(config, width)[name]
        place = find_outside(values, limit)
        if place is not None:
            advice = _ADVICE[name].format(pad=config.pad_token_id)
            raise InputError(
                f"{where} holds {values[place]} in {name} at {list(place)}, but the model knows 0 "
                f"to {limit - 1}. {advice}"
            )


def check_length(length: int, config: BertConfig, where: str = "The input") -> None:
    """Refuses sequences that are longer than the table of positions."""
    if length > config.max_positions:
        raise InputError(
            f"{where} has {length} tokens a sequence, but the model has only "
            f"{config.max_positions} positions. Shorten the sequences."
        )


def find_outside(values: Array, limit: int) -> tuple[int, ...] | None:
    """Finds the first number that is not in 0 .. limit - 1.

    Args:
        values: Numbers of any shape and type; NaN is outside.
        limit: One more than the largest that is inside.

    Returns:
        Its place, or None.
    """
    if values.size == 0 or (values.min() >= 0 and values.max() < limit):
        return None
    inside = (values >= 0) & (values < limit)
    return tuple(int(index) for index in np.argwhere(~inside)[0])


def known_values(value: Any) -> Array | None:
    """An array, nested list or eager tensor as an array of numbers; None for any other."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, NotImplementedError):  # as symbolic tensors of each backend say
        return None
    return array if array.ndim and array.dtype.kind in "iufb" else None


def refusable(ids: Tensor, limit: int) -> Tensor:
    """Makes ids that are not known yet such that a gather of the backend may refuse them.

    TensorFlow on CPUs and LiteRT refuse ids beyond the `limit` rows of a table, but Keras takes
    negative ones from there.

    Returns:
        The ids, `limit` in place of negative ones.
    """
    return ops.where(ops.less(ids, 0), ops.cast(limit, ids.dtype), ids)


def _limits(config: BertConfig, width: tuple[int, ...]) -> dict[str, int]:
    return {
        "token_ids": config.vocab_size,
        "segment_ids": config.type_vocab_size,
        "masked_lm_ids": config.vocab_size,
        "masked_lm_positions": width[0] if width else config.max_positions,
    }
