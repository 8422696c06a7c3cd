"""Heads on top of the encoder."""

from typing import Any

import keras
from keras import ops

from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.layers import Dense, LayerNorm, activation, linear
from etd_tf.types import Tensor


@keras.saving.register_keras_serializable(package="etd_tf")
class MaskedLMHead(keras.layers.Layer):
    """BERT's masked-LM head: dense, activation, LayerNorm, product with the embeddings.

    The output embedding is the encoder's token table (tied), so it is an argument of the
    call and not a weight of the head.

    Args:
        config: A `BertConfig`, or the dictionary that `BertConfig.to_dict` returns.
        dtype: Keras dtype policy.
        name: Layer name.
    """

    def __init__(self, config: Any, *, dtype: Any = None, name: str = "mlm_head") -> None:
        super().__init__(dtype=dtype or "float32", name=name, autocast=False)
        if not isinstance(config, BertConfig):
            config = BertConfig(**config)
        self.config = config
        hidden, policy = config.hidden_size, self.dtype_policy
        self.dense = Dense(hidden, hidden, dtype=policy, name="dense")
        self.layer_norm = LayerNorm(
            hidden, config.layer_norm_epsilon, dtype=policy, name="layer_norm"
        )
        self.output_bias = self.add_weight(
            shape=(config.vocab_size,), initializer="zeros", name="output_bias"
        )
        self.built = True

    def call(self, hidden_states: Tensor, token_embeddings: Tensor) -> Tensor:
        """Computes vocabulary logits.

        Args:
            hidden_states: `[..., H]`, usually only the masked positions.
            token_embeddings: `[V, H]`, the encoder's `embeddings.token`.

        Returns:
            Float32 `[..., V]`.
        """
        act = activation(self.config.hidden_act, training=True)
        x = self.layer_norm(self.dense(hidden_states, act=act))
        kernel = ops.transpose(ops.cast(token_embeddings, self.compute_dtype))
        logits = ops.cast(linear(x, kernel), "float32")
        return ops.add(logits, ops.cast(self.output_bias, "float32"))

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs: sizes and policy, no weights."""
        return {
            "config": self.config.to_dict(),
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }
