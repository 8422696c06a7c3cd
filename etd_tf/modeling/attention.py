"""Multi-head self-attention with public queries, keys, values and scores."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.layers import Dense, dropout
from etd_tf.types import Tensor

_MASKED_SCORE = -1e9  # exp() of it is exactly 0 in float32


class AttentionTrace(NamedTuple):
    """What one attention block computed.

    Attributes:
        queries: `[B, N, T, D]`, not yet divided by sqrt(D).
        keys: `[B, N, T, D]`.
        values: `[B, N, T, D]`.
        scores: `[B, N, T, T]` (query, key), divided by sqrt(D), before mask and softmax.
        context: `[B, T, N*D]`, each head's weighted values, which the output kernel reads.
        output: `[B, T, H]`, after the output projection.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    scores: Tensor
    context: Tensor
    output: Tensor


class AttentionGates(NamedTuple):
    """Multipliers of one block's units; None stands for ones.

    Attributes:
        query_key: `[B, N, D]`, multiplies each product q_d * k_d before softmax.
        value: `[B, N, D]`, multiplies the head context (the same as gating values).
    """

    query_key: Tensor | None
    value: Tensor | None


NO_GATES = AttentionGates(None, None)
"""Every unit as it is."""


class SelfAttention(keras.layers.Layer):
    """BERT self-attention; kernels are `[H, N*D]`, column n*D + j is dim j of head n.

    Args:
        config: Sizes and dropout rates.
        dtype: Keras dtype policy; scores and softmax are float32 in any case.
        name: Layer name.
    """

    def __init__(self, config: BertConfig, *, dtype: Any = None, name: str = "attention") -> None:
        super().__init__(dtype=dtype or "float32", name=name, autocast=False)
        self.config = config
        hidden, policy = config.hidden_size, self.dtype_policy
        self.query = Dense(hidden, hidden, dtype=policy, name="query")
        self.key = Dense(hidden, hidden, dtype=policy, name="key")
        self.value = Dense(hidden, hidden, dtype=policy, name="value")
        self.output_dense = Dense(hidden, hidden, dtype=policy, name="output")
        self.built = True

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes queries, keys and values.

        Three products, although one with joined kernels would do: cutting its result apart
        costs more than it saves, above all in the gradient.

        Returns:
            Three tensors `[B, N, T, D]`.
        """
        batch, length = ops.shape(x)[:2]
        shape = (batch, length, self.config.num_heads, self.config.head_size)
        queries, keys, values = (
            ops.transpose(ops.reshape(dense(x), shape), (0, 2, 1, 3))
            for dense in (self.query, self.key, self.value)
        )
        return queries, keys, values

    def call(
        self,
        x: Tensor,
        mask_bias: Tensor | None,
        gates: AttentionGates = NO_GATES,
        seed: keras.random.SeedGenerator | None = None,
    ) -> AttentionTrace:
        """Runs the block.

        Args:
            x: `[B, T, H]`.
            mask_bias: Float32 `[B, 1, 1, T]`, 0 for real keys, very negative for padding.
            gates: Unit gates for importance scoring.
            seed: Source of dropout seeds; None in inference.

        Returns:
            The trace; its `output` has shape `[B, T, H]`.
        """
        queries, keys, values = self.project(x)
        dtype = _product_dtype(queries.dtype)
        q, k, v = (ops.cast(part, dtype) for part in (queries, keys, values))
        if gates.query_key is not None:
            q = ops.multiply(q, ops.cast(gates.query_key, dtype)[:, :, None, :])
        # Scaled after the product and in float32: TensorFlow runs product, scale and mask as
        # one operation, and a bfloat16 1/sqrt(D) would bias every score the same way.
        products = ops.cast(ops.matmul(q, ops.swapaxes(k, -1, -2)), "float32")
        scores = ops.multiply(products, self.config.head_size**-0.5)
        masked = scores if mask_bias is None else ops.add(scores, mask_bias)
        probabilities = ops.softmax(masked, axis=-1)
        probabilities = dropout(probabilities, self.config.attention_dropout, seed)
        context = ops.matmul(ops.cast(probabilities, dtype), v)
        if gates.value is not None:
            context = ops.multiply(context, ops.cast(gates.value, dtype)[:, :, None, :])
        batch, length = ops.shape(x)[:2]
        context = ops.reshape(
            ops.transpose(context, (0, 2, 1, 3)), (batch, length, self.config.hidden_size)
        )
        return AttentionTrace(queries, keys, values, scores, context, self.output_dense(context))


def padding_bias(padding_mask: Tensor) -> Tensor:
    """What is added to scores so that padding gets no attention.

    Args:
        padding_mask: `[B, T]`, 1 for real tokens.

    Returns:
        Float32 `[B, T]`: 0 for real tokens, and for padding a score whose exponential is
        exactly 0.
    """
    return ops.multiply(ops.subtract(1.0, ops.cast(padding_mask, "float32")), _MASKED_SCORE)


@functools.cache
def _has_accelerator() -> bool:
    if keras.backend.backend() == "torch":  # has no device list; tested on CPUs only
        return False
    return not any("cpu" in device.lower() for device in keras.distribution.list_devices())


def _product_dtype(dtype: str) -> str:
    """Dtype of the products inside attention: float32 on CPUs, else the compute dtype.

    They are a small share of the work, and on CPUs the float32 softmax between them would
    cost more in conversions than bfloat16 products save.
    """
    return keras.backend.standardize_dtype(dtype) if _has_accelerator() else "float32"
