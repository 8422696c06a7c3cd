"""The encoder and its heads, as Keras layers with public internals."""

from etd_tf.modeling.attention import AttentionGates, AttentionTrace, SelfAttention
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.encoder import BertEncoder, EncoderGates, EncoderLayer, EncoderTrace
from etd_tf.modeling.heads import MaskedLMHead
from etd_tf.modeling.parameters import (
    get_parameters,
    parameter_shapes,
    parameter_variables,
    set_parameters,
)

__all__ = [
    "AttentionGates",
    "AttentionTrace",
    "BertConfig",
    "BertEncoder",
    "EncoderGates",
    "EncoderLayer",
    "EncoderTrace",
    "MaskedLMHead",
    "SelfAttention",
    "get_parameters",
    "parameter_shapes",
    "parameter_variables",
    "set_parameters",
]
