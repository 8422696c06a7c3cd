"""The BERT encoder: embeddings, post-LayerNorm Transformer layers and pooler."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from etd_tf.errors import InputError
from etd_tf.modeling.attention import (
    NO_GATES,
    AttentionGates,
    AttentionTrace,
    SelfAttention,
    padding_bias,
)
from etd_tf.modeling.checked_data import CheckedModel
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.ids import check_ids
from etd_tf.modeling.layers import Dense, Embeddings, LayerNorm, SeedStream, activation, dropout
from etd_tf.types import Tensor


class EncoderTrace(NamedTuple):
    """Every internal state that a distillation loss or an extraction may read.

    In a compiled function the ones that nobody reads are never computed.

    Attributes:
        embedding_output: `[B, T, H]`, after its LayerNorm.
        hidden_states: L tensors `[B, T, H]`, the output of each layer.
        queries: L tensors `[B, N, T, D]`.
        keys: L tensors `[B, N, T, D]`.
        values: L tensors `[B, N, T, D]`.
        attention_scores: L float32 tensors `[B, N, T, T]`, before mask and softmax.
        pooled_output: `[B, H]`, or None where the encoder has no pooler.
        padding_mask: `[B, T]`, 1 for real tokens.
        contexts: L tensors `[B, T, N*D]`, each head's weighted values.
        ffn_inputs: L tensors `[B, T, H]`, after the attention block's LayerNorm.
        preactivations: L tensors `[B, T, F]`, before the activation function.
        inners: L tensors `[B, T, F]`, after it.
    """

    embedding_output: Tensor
    hidden_states: tuple[Tensor, ...]
    queries: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    attention_scores: tuple[Tensor, ...]
    pooled_output: Tensor | None
    padding_mask: Tensor
    contexts: tuple[Tensor, ...] = ()
    ffn_inputs: tuple[Tensor, ...] = ()
    preactivations: tuple[Tensor, ...] = ()
    inners: tuple[Tensor, ...] = ()

    @property
    def sequence_output(self) -> Tensor:
        """The last layer's hidden state `[B, T, H]`."""
        return self.hidden_states[-1]

    @property
    def layer_inputs(self) -> tuple[Tensor, ...]:
        """L tensors `[B, T, H]`, what each layer's attention reads."""
        return (self.embedding_output, *self.hidden_states[:-1])


class LayerTrace(NamedTuple):
    """What one layer computed.

    Attributes:
        attention: The attention block's trace.
        ffn_input: `[B, T, H]`.
        preactivation: `[B, T, F]`.
        inner: `[B, T, F]`.
        output: `[B, T, H]`.
    """

    attention: AttentionTrace
    ffn_input: Tensor
    preactivation: Tensor
    inner: Tensor
    output: Tensor


class EncoderGates(NamedTuple):
    """Multipliers of every prunable unit, one set an example (see importance scoring).

    Attributes:
        hidden: L + 1 tensors `[B, H]`: the embedding output, then each layer's output.
        intermediate: L tensors `[B, F]`: the activation before the second FFN product.
        query_key: L tensors `[B, N, D]`.
        value: L tensors `[B, N, D]`.
    """

    hidden: tuple[Tensor, ...]
    intermediate: tuple[Tensor, ...]
    query_key: tuple[Tensor, ...]
    value: tuple[Tensor, ...]


class EncoderLayer(keras.layers.Layer):
    """One Transformer layer: attention and feed-forward, each followed by LayerNorm.

    Args:
        config: Sizes, activation and dropout rates.
        dtype: Keras dtype policy.
        name: Layer name.

    Attributes:
        portable: Set it before converting the model for another runtime; see `activation`.
    """

    def __init__(self, config: BertConfig, *, dtype: Any = None, name: str) -> None:
        super().__init__(dtype=dtype or "float32", name=name, autocast=False)
        self.config = config
        self.portable = False
        hidden, inner, policy = config.hidden_size, config.intermediate_size, self.dtype_policy
        epsilon = config.layer_norm_epsilon
        self.attention = SelfAttention(config, dtype=policy)
        self.attention_layer_norm = LayerNorm(
            hidden, epsilon, dtype=policy, name="attention_layer_norm"
        )
        self.intermediate = Dense(hidden, inner, dtype=policy, name="intermediate")
        self.output_dense = Dense(inner, hidden, dtype=policy, name="output")
        self.output_layer_norm = LayerNorm(hidden, epsilon, dtype=policy, name="output_layer_norm")
        self.built = True

    def call(
        self,
        x: Tensor,
        mask_bias: Tensor | None,
        attention_gates: AttentionGates = NO_GATES,
        intermediate_gate: Tensor | None = None,
        seed: keras.random.SeedGenerator | None = None,
        training: bool = False,
    ) -> LayerTrace:
        """Maps `[B, T, H]` to the layer's trace, whose output is `[B, T, H]`."""
        rate = self.config.hidden_dropout
        attention = self.attention(x, mask_bias, gates=attention_gates, seed=seed)
        x = self.attention_layer_norm(ops.add(x, dropout(attention.output, rate, seed)))
        act = activation(self.config.hidden_act, training=training, portable=self.portable)
        before: list[Tensor] = []

        def observed(y: Tensor) -> Tensor:
            before.append(y)
            return act(y)

        # Looked at on its way: between product and activation nothing may come (see `linear`).
        inner = self.intermediate(x, act=observed)
        preactivation = ops.reshape(before[0], ops.shape(inner))
        if intermediate_gate is not None:
            inner = ops.multiply(inner, ops.cast(intermediate_gate, inner.dtype)[:, None, :])
        y = dropout(self.output_dense(inner), rate, seed)
        output = self.output_layer_norm(ops.add(x, y))
        return LayerTrace(attention, x, preactivation, inner, output)


@keras.saving.register_keras_serializable(package="etd_tf")
class BertEncoder(CheckedModel):
    """A BERT encoder with an exact configuration and visible internals.

    Inputs are a dictionary of int32 `[B, T]` tensors: `token_ids`, and optionally
    `segment_ids` (default 0) and `padding_mask` (1 for real tokens; default: the tokens
    that are not `config.pad_token_id`). The output is a dictionary: `sequence_output`
    `[B, T, H]` and, with a pooler, `pooled_output` `[B, H]`.

    Ids that the model lacks are refused. Only inside of a larger model, on a GPU or compiled by
    XLA, they are not seen: check what it is given by `etd_tf.modeling.ids.check_ids`.

    Args:
        config: A `BertConfig`, or the dictionary that `BertConfig.to_dict` returns.
        pooler: Whether there is a pooler (tanh dense layer on the first token).
        dtype: Keras dtype policy: `"float32"`, `"mixed_bfloat16"`, `"bfloat16"`, ...
        name: Model name.

    Example:
        >>> config = BertConfig(99, num_layers=2, hidden_size=8, num_heads=2,
        ...                     intermediate_size=16)
        >>> encoder = BertEncoder(config)
        >>> encoder({"token_ids": np.array([[5, 6, 7]])})["sequence_output"].shape
        TensorShape([1, 3, 8])
    """

    def __init__(
        self,
        config: BertConfig | Mapping[str, Any],
        *,
        pooler: bool = True,
        dtype: Any = None,
        name: str = "bert_encoder",
    ) -> None:
        super().__init__(dtype=dtype or "float32", name=name, autocast=False)
        if not isinstance(config, BertConfig):
            config = BertConfig(**config)
        self.config = config
        policy = self.dtype_policy
        self.embeddings = Embeddings(config, dtype=policy)
        self.encoder_layers = [
            EncoderLayer(config, dtype=policy, name=f"layer_{i}") for i in range(config.num_layers)
        ]
        self.pooler = (
            Dense(config.hidden_size, config.hidden_size, dtype=policy, name="pooler")
            if pooler
            else None
        )
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(self, inputs: Mapping[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """Encodes a batch; see the class for inputs and outputs."""
        trace = self.trace(inputs, training=training)
        outputs = {"sequence_output": trace.sequence_output}
        if trace.pooled_output is not None:
            outputs["pooled_output"] = trace.pooled_output
        return outputs

    def trace(
        self,
        inputs: Mapping[str, Tensor],
        *,
        gates: EncoderGates | None = None,
        training: bool = False,
        dropout_seed: Tensor | None = None,
    ) -> EncoderTrace:
        """Runs the encoder and returns all internal states.

        Args:
            inputs: As for calling the model.
            gates: Unit multipliers; None means all ones.
            training: Apply dropout.
            dropout_seed: Integer tensor `[2]` that alone determines the dropout masks;
                None uses the model's own seed generator.

        Raises:
            InputError: `inputs` lacks `token_ids`, an id is in none of the model's tables, or
                sequences exceed the position table.
        """
        token_ids, segment_ids, padding_mask = self._unpack(inputs)
        seed = self._seed_source(training, dropout_seed)
        # Not `[:, None, None, :]`: LiteRT has no strided slice with two new axes.
        mask_bias = ops.expand_dims(padding_bias(padding_mask), axis=(1, 2))
        x = _gated(self.embeddings(token_ids, segment_ids, seed=seed), gates, 0)
        embedding_output, traces = x, []
        for index, layer in enumerate(self.encoder_layers):
            attention_gates, intermediate = NO_GATES, None
            if gates is not None:
                attention_gates = AttentionGates(gates.query_key[index], gates.value[index])
                intermediate = gates.intermediate[index]
            trace = layer(
                x,
                mask_bias,
                attention_gates=attention_gates,
                intermediate_gate=intermediate,
                seed=seed,
                training=training,
            )
            x = _gated(trace.output, gates, index + 1)
            traces.append(trace._replace(output=x))
        pooled = None if self.pooler is None else ops.tanh(self.pooler(x[:, 0]))
        return EncoderTrace(
            embedding_output=embedding_output,
            hidden_states=tuple(one.output for one in traces),
            queries=tuple(one.attention.queries for one in traces),
            keys=tuple(one.attention.keys for one in traces),
            values=tuple(one.attention.values for one in traces),
            attention_scores=tuple(one.attention.scores for one in traces),
            contexts=tuple(one.attention.context for one in traces),
            ffn_inputs=tuple(one.ffn_input for one in traces),
            preactivations=tuple(one.preactivation for one in traces),
            inners=tuple(one.inner for one in traces),
            pooled_output=pooled,
            padding_mask=padding_mask,
        )

    def _unpack(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None, Tensor]:
        if not isinstance(inputs, Mapping) or "token_ids" not in inputs:
            got = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise InputError(
                "BertEncoder takes a dictionary with token_ids [B, T] and optionally "
                f"segment_ids and padding_mask; received {got}."
            )
        check_ids(inputs, self.config)
        token_ids = ops.convert_to_tensor(inputs["token_ids"], dtype="int32")
        segment_ids = inputs.get("segment_ids")
        if segment_ids is not None:
            segment_ids = ops.convert_to_tensor(segment_ids, dtype="int32")
        return token_ids, segment_ids, self.padding_mask(inputs)

    def padding_mask(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Says which tokens of some inputs are real.

        Returns:
            Their `padding_mask` `[B, T]`; without one, 1 for all tokens but the padding.
        """
        mask = inputs.get("padding_mask")
        if mask is not None:
            return ops.convert_to_tensor(mask)
        return ops.cast(ops.not_equal(inputs["token_ids"], self.config.pad_token_id), "int32")

    def _seed_source(
        self, training: bool, dropout_seed: Tensor | None
    ) -> keras.random.SeedGenerator | None:
        if not training:
            return None
        return self.seed_generator if dropout_seed is None else SeedStream(dropout_seed)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs: sizes and policy, no weights."""
        return {
            "config": self.config.to_dict(),
            "pooler": self.pooler is not None,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }


def _gated(x: Tensor, gates: EncoderGates | None, site: int) -> Tensor:
    if gates is None:
        return x
    return ops.multiply(x, ops.cast(gates.hidden[site], x.dtype)[:, None, :])
