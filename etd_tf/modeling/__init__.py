"""The encoder and its heads, as Keras layers with public internals; loaded on first use."""

from etd_tf.lazy import lazy_names

_HOMES = {
    "AttentionGates": "attention",
    "AttentionTrace": "attention",
    "BertConfig": "config",
    "BertEncoder": "encoder",
    "EncoderGates": "encoder",
    "EncoderLayer": "encoder",
    "EncoderTrace": "encoder",
    "DenseLayer": "pooling",
    "MaskedLMHead": "heads",
    "Pooling": "pooling",
    "SelfAttention": "attention",
    "get_parameters": "parameters",
    "parameter_shapes": "structure",
    "parameter_variables": "parameters",
    "set_parameters": "parameters",
}

__all__ = list(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
