"""The activations at which units can be cut, layer by layer, forward only."""

from collections.abc import Mapping
from typing import NamedTuple

from keras import ops

from etd_tf.modeling.attention import padding_bias
from etd_tf.modeling.encoder import BertEncoder, EncoderLayer
from etd_tf.modeling.layers import activation
from etd_tf.types import Tensor


class LayerSites(NamedTuple):
    """What one layer computes at each place where units are cut.

    Attributes:
        attention_input: `[B, T, H]`, the layer's input.
        queries: `[B, N, T, D]`.
        keys: `[B, N, T, D]`.
        context: `[B, N, T, D]`, each head's weighted values.
        ffn_input: `[B, T, H]`, after the attention block's LayerNorm.
        preactivation: `[B, T, F]`, before the activation function.
        inner: `[B, T, F]`, after it.
        output: `[B, T, H]`, the layer's output.
    """

    attention_input: Tensor
    queries: Tensor
    keys: Tensor
    context: Tensor
    ffn_input: Tensor
    preactivation: Tensor
    inner: Tensor
    output: Tensor


def trace_sites(encoder: BertEncoder, inputs: Mapping[str, Tensor]) -> list[LayerSites]:
    """Runs the encoder in inference mode and keeps every cut site.

    Args:
        encoder: The encoder.
        inputs: `token_ids`, `segment_ids`, `padding_mask`: int32 `[B, T]`.

    Returns:
        The sites of each layer; the first layer's input is the embedding output.
    """
    x = encoder.embeddings(inputs["token_ids"], inputs["segment_ids"])
    mask_bias = padding_bias(inputs["padding_mask"])[:, None, None, :]
    sites = []
    for layer in encoder.encoder_layers:
        sites.append(_layer_sites(layer, x, mask_bias))
        x = sites[-1].output
    return sites


def _layer_sites(layer: EncoderLayer, x: Tensor, mask_bias: Tensor) -> LayerSites:
    attention = layer.attention(x, mask_bias)
    probabilities = ops.softmax(attention.scores + mask_bias, axis=-1)
    values = attention.values
    context = ops.matmul(ops.cast(probabilities, values.dtype), values)
    ffn_input = layer.attention_layer_norm(ops.add(x, attention.output))
    preactivation = layer.intermediate(ffn_input)
    inner = activation(layer.config.hidden_act)(preactivation)
    output = layer.output_layer_norm(ops.add(ffn_input, layer.output_dense(inner)))
    return LayerSites(
        x,
        attention.queries,
        attention.keys,
        context,
        ffn_input,
        preactivation,
        inner,
        output,
    )
