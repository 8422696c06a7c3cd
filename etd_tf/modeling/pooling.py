"""From the states of a text's tokens to one vector: what a sentence encoder does last."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.types import Array, Tensor

_TINY = 1e-12  # of a norm, and of a number of tokens: PyTorch's for normalize


def _first(mask: Tensor, _: Tensor) -> Tensor:
    return ops.multiply(mask, ops.cast(ops.equal(ops.cumsum(mask, axis=1), 1.0), "float32"))


def _last(mask: Tensor, _: Tensor) -> Tensor:
    number = ops.sum(mask, axis=1, keepdims=True)
    is_last = ops.cast(ops.equal(ops.cumsum(mask, axis=1), number), "float32")
    return ops.multiply(mask, is_last)


def _mean(mask: Tensor, _: Tensor) -> Tensor:
    return ops.divide(mask, ops.maximum(ops.sum(mask, axis=1, keepdims=True), _TINY))


def _mean_sqrt(mask: Tensor, _: Tensor) -> Tensor:
    number = ops.maximum(ops.sum(mask, axis=1, keepdims=True), _TINY)
    return ops.divide(mask, ops.sqrt(number))


def _by_place(mask: Tensor, place: Tensor) -> Tensor:
    return _mean(ops.multiply(mask, place), place)


# Name -> weight of each token [B, T], of the mask of tokens that count and of each token's
# place from 1. None: the largest value of each dim instead. Concatenated in this order where
# a file only says which ones there are.
POOLING_MODES: dict[str, Any] = {
    "cls": _first,
    "max": None,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _by_place,
    "lasttoken": _last,
}
"""Ways to pool, by sentence-transformers' names."""

ACTIVATIONS = ("linear", "tanh", "relu", "gelu", "sigmoid", "silu")
"""Activations of dense layers behind the pooling, by Keras' names; GELU is the exact one."""


def _activate(name: str, x: Tensor) -> Tensor:
    if name == "linear":
        return x
    return ops.gelu(x, approximate=False) if name == "gelu" else getattr(ops, name)(x)


@dataclasses.dataclass(frozen=True, eq=False)
class DenseLayer:
    """A dense layer behind the pooling.

    Attributes:
        kernel: Float32 `[in, out]`.
        bias: Float32 `[out]`.
        activation: One of `ACTIVATIONS`.

    Raises:
        InputError: The arrays do not fit each other, or the activation is unknown.
    """

    kernel: Array
    bias: Array
    activation: str = "linear"

    def __post_init__(self) -> None:
        if self.kernel.ndim != 2 or self.kernel.shape[1:] != self.bias.shape:
            raise InputError(
                f"A dense layer's kernel {self.kernel.shape} does not fit its bias "
                f"{self.bias.shape}; expected [in, out] and [out]."
            )
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"activation={self.activation!r} is unknown; choose from {', '.join(ACTIVATIONS)}."
            )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DenseLayer)
            and self.activation == other.activation
            and np.array_equal(self.kernel, other.kernel, equal_nan=True)
            and np.array_equal(self.bias, other.bias, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, vectors: Tensor) -> Tensor:
        """Applies it to `[B, in]`."""
        product = ops.add(ops.matmul(vectors, self.kernel), self.bias)
        return _activate(self.activation, product)


@dataclasses.dataclass(frozen=True)
class Pooling:
    """How an encoder makes one vector of a text, and what else its users must know.

    Attributes:
        modes: One or more of `POOLING_MODES`; several are concatenated.
        dense: Layers behind the pooling.
        normalize: Whether vectors get length 1 at the end.
        truncate_dim: The first so many dims are the vector; None for all.
        max_seq_length: Longer texts are cut, special tokens included; None for what the
            encoder and its tokenizer take.
        lowercase: Whether texts are lowercased before the tokenizer sees them.
        prompts: Texts to put before a text, by name.
        default_prompt_name: The one that is used where none is asked for.
        include_prompt: Whether a prompt's tokens are pooled, too.
        similarity_fn_name: What compares two vectors, such as `"cosine"`; None if unknown.

    Raises:
        InputError: A mode is unknown or doubled, the layers do not fit each other, or there
            is no prompt of the default's name.

    Source: Reimers and Gurevych 2019 (arXiv 1908.10084), section 3.
    """

    modes: tuple[str, ...] = ("mean",)
    dense: tuple[DenseLayer, ...] = ()
    normalize: bool = False
    truncate_dim: int | None = None
    max_seq_length: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt_name: str | None = None
    include_prompt: bool = True
    similarity_fn_name: str | None = None

    def __post_init__(self) -> None:
        known = [mode in POOLING_MODES for mode in self.modes]
        if not self.modes or not all(known) or len(set(self.modes)) < len(self.modes):
            raise InputError(
                f"Pooling modes {', '.join(map(repr, self.modes)) or 'of no name'}: expected one "
                f"or more of {', '.join(POOLING_MODES)}, none twice."
            )
        for before, after in zip(self.dense, self.dense[1:], strict=False):
            if before.kernel.shape[1] != after.kernel.shape[0]:
                raise InputError(
                    f"A dense layer makes {before.kernel.shape[1]} dims, but the next one takes "
                    f"{after.kernel.shape[0]}. Give layers that fit each other."
                )
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise InputError(
                f"default_prompt_name={self.default_prompt_name!r} is not among the prompts "
                f"({', '.join(self.prompts) or 'there are none'})."
            )

    def fits(self, hidden_size: int) -> bool:
        """Whether the dense layers take what an encoder of this width gives."""
        return not self.dense or self.dense[0].kernel.shape[0] == len(self.modes) * hidden_size

    def dimension(self, hidden_size: int) -> int:
        """The number of dims of a vector, for an encoder of this width."""
        width = self.dense[-1].kernel.shape[1] if self.dense else len(self.modes) * hidden_size
        return min(width, self.truncate_dim or width)

    def for_student(self, hidden_size: int) -> "Pooling":
        """The pooling of a student: without dense layers that do not fit it, which is said."""
        if self.fits(hidden_size):
            return self
        logging.warning(
            "The teacher's dense layer takes %d dims, the student has %d: it stays behind, and "
            "the student's sentence vectors are not in the teacher's space.",
            self.dense[0].kernel.shape[0],
            len(self.modes) * hidden_size,
        )
        return dataclasses.replace(self, dense=())

    def prompt(self, name_or_text: str | None) -> str:
        """The text to put before each text.

        Args:
            name_or_text: Name of a prompt; or, where it is more than a word, the prompt
                itself; None for the default.

        Returns:
            The prompt; empty for none.

        Raises:
            InputError: There is no prompt of that name.
        """
        if name_or_text is None:
            name_or_text = self.default_prompt_name or ""
        if name_or_text in self.prompts:
            return self.prompts[name_or_text]
        if name_or_text.isidentifier():
            raise InputError(
                f"There is no prompt={name_or_text!r}; the model has "
                f"{', '.join(self.prompts) or 'none'}. Choose one of them, or give the text "
                f"itself with what ends it, such as {name_or_text + ': '!r}."
            )
        return name_or_text

    def __call__(
        self, states: Tensor, mask: Tensor, *, counted: Tensor | None = None, normalize: Any = None
    ) -> Tensor:
        """Makes one vector of each text.

        Args:
            states: The encoder's last states `[B, T, H]`.
            mask: 1 for tokens and 0 for padding at the end, `[B, T]`.
            counted: As `mask`, with 0 for tokens that are not pooled; None for `mask`.
            normalize: Whether vectors get length 1; None for what the model says.

        Returns:
            Float32 `[B, D]`.
        """
        states, mask = ops.cast(states, "float32"), ops.cast(mask, "float32")
        counted = mask if counted is None else ops.cast(counted, "float32")
        place = ops.cumsum(ops.ones_like(mask), axis=1)
        pooled = [_pool(mode, states, counted, place) for mode in self.modes]
        vectors = pooled[0] if len(pooled) == 1 else ops.concatenate(pooled, axis=-1)
        for layer in self.dense:
            vectors = layer(vectors)
        if self.normalize and normalize is not False:
            vectors = unit_length(vectors)
        if self.truncate_dim is not None:
            vectors = vectors[:, : self.truncate_dim]
        # Whoever asks for unit length wants it of the dims that are left.
        return unit_length(vectors) if normalize else vectors


def _pool(mode: str, states: Tensor, mask: Tensor, place: Tensor) -> Tensor:
    weigh = POOLING_MODES[mode]
    if weigh is None:
        lowest = ops.full_like(states, -np.inf)
        return ops.max(
            ops.where(ops.expand_dims(ops.greater(mask, 0.0), -1), states, lowest), axis=1
        )
    # No matrix product: on GPUs it would round to TensorFloat-32.
    return ops.sum(ops.multiply(states, ops.expand_dims(weigh(mask, place), -1)), axis=1)


def unit_length(vectors: Tensor) -> Tensor:
    """Divides vectors `[B, D]` by their lengths; zeros stay zeros."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return ops.divide(vectors, ops.maximum(ops.sqrt(squares), _TINY))
