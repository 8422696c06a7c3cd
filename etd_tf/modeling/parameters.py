"""Weights as NumPy arrays under canonical names.

The canonical names are the meeting point of all checkpoint formats and of extraction:
a format's reader or writer is a table from its names to these, and extraction slices
these arrays. Kernels are `[input, output]`; attention kernels are `[H, N*D]`, column
n*D + j being dim j of head n.
"""

from collections.abc import Iterator, Mapping

import keras
import numpy as np

from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.encoder import BertEncoder, EncoderLayer
from etd_tf.modeling.heads import MaskedLMHead
from etd_tf.modeling.layers import Dense, LayerNorm
from etd_tf.types import Parameters


def parameter_shapes(
    config: BertConfig, *, pooler: bool = True, mlm_head: bool = False
) -> dict[str, tuple[int, ...]]:
    """Lists every weight of a model, without building it.

    Args:
        config: The architecture.
        pooler: Include the pooler.
        mlm_head: Include the masked-LM head.

    Returns:
        Shape by canonical name, in model order.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token": (config.vocab_size, hidden),
        "embeddings.position": (config.max_positions, hidden),
        "embeddings.segment": (config.type_vocab_size, hidden),
    }

    def add_dense(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.kernel"] = (rows, columns)
        shapes[f"{name}.bias"] = (columns,)

    def add_layer_norm(name: str) -> None:
        shapes[f"{name}.gamma"] = shapes[f"{name}.beta"] = (hidden,)

    add_layer_norm("embeddings.layer_norm")
    for index in range(config.num_layers):
        layer = f"layers.{index}"
        for part in ("query", "key", "value", "output"):
            add_dense(f"{layer}.attention.{part}", hidden, hidden)
        add_layer_norm(f"{layer}.attention_layer_norm")
        add_dense(f"{layer}.intermediate", hidden, inner)
        add_dense(f"{layer}.output", inner, hidden)
        add_layer_norm(f"{layer}.output_layer_norm")
    if pooler:
        add_dense("pooler", hidden, hidden)
    if mlm_head:
        add_dense("mlm.dense", hidden, hidden)
        add_layer_norm("mlm.layer_norm")
        shapes["mlm.output_bias"] = (config.vocab_size,)
    return shapes


def parameter_variables(
    encoder: BertEncoder, mlm_head: MaskedLMHead | None = None
) -> dict[str, keras.Variable]:
    """Maps canonical names to the Keras variables of a model.

    Args:
        encoder: The encoder.
        mlm_head: Its masked-LM head, if any.

    Returns:
        Variables in the order of `parameter_shapes`.
    """
    embeddings = encoder.embeddings
    variables = {
        "embeddings.token": embeddings.token,
        "embeddings.position": embeddings.position,
        "embeddings.segment": embeddings.segment,
        **dict(_layer_norm("embeddings.layer_norm", embeddings.layer_norm)),
    }
    for index, layer in enumerate(encoder.encoder_layers):
        variables.update(_encoder_layer(f"layers.{index}", layer))
    if encoder.pooler is not None:
        variables.update(_dense("pooler", encoder.pooler))
    if mlm_head is not None:
        variables.update(_dense("mlm.dense", mlm_head.dense))
        variables.update(_layer_norm("mlm.layer_norm", mlm_head.layer_norm))
        variables["mlm.output_bias"] = mlm_head.output_bias
    return variables


def _dense(name: str, layer: Dense) -> Iterator[tuple[str, keras.Variable]]:
    yield f"{name}.kernel", layer.kernel
    yield f"{name}.bias", layer.bias


def _layer_norm(name: str, layer: LayerNorm) -> Iterator[tuple[str, keras.Variable]]:
    yield f"{name}.gamma", layer.gamma
    yield f"{name}.beta", layer.beta


def _encoder_layer(name: str, layer: EncoderLayer) -> Iterator[tuple[str, keras.Variable]]:
    attention = layer.attention
    yield from _dense(f"{name}.attention.query", attention.query)
    yield from _dense(f"{name}.attention.key", attention.key)
    yield from _dense(f"{name}.attention.value", attention.value)
    yield from _dense(f"{name}.attention.output", attention.output_dense)
    yield from _layer_norm(f"{name}.attention_layer_norm", layer.attention_layer_norm)
    yield from _dense(f"{name}.intermediate", layer.intermediate)
    yield from _dense(f"{name}.output", layer.output_dense)
    yield from _layer_norm(f"{name}.output_layer_norm", layer.output_layer_norm)


def get_parameters(encoder: BertEncoder, mlm_head: MaskedLMHead | None = None) -> Parameters:
    """Copies all weights into float32 NumPy arrays.

    Args:
        encoder: The encoder.
        mlm_head: Its masked-LM head, if any.

    Returns:
        Arrays by canonical name.
    """
    variables = parameter_variables(encoder, mlm_head)
    return {
        name: np.array(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")))
        for name, variable in variables.items()
    }


def set_parameters(
    parameters: Mapping[str, np.ndarray],
    encoder: BertEncoder,
    mlm_head: MaskedLMHead | None = None,
) -> None:
    """Assigns all weights of a model; nothing is changed when something does not fit.

    Args:
        parameters: Arrays by canonical name: every weight of the model and no other.
        encoder: The encoder to fill.
        mlm_head: Its masked-LM head, if any.

    Raises:
        InputError: A weight is missing, is left over or has another shape.
    """
    variables = parameter_variables(encoder, mlm_head)
    check_parameters(parameters, {name: tuple(v.shape) for name, v in variables.items()})
    for name, variable in variables.items():
        variable.assign(parameters[name])


def check_parameters(
    parameters: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Checks that arrays are exactly the weights of a model.

    Args:
        parameters: Arrays by canonical name.
        shapes: Expected shape by canonical name.

    Raises:
        InputError: A weight is missing, is left over or has another shape.
    """
    missing = [name for name in shapes if name not in parameters]
    extra = [name for name in parameters if name not in shapes]
    wrong = [
        f"{name} has shape {tuple(parameters[name].shape)}, expected {shape}"
        for name, shape in shapes.items()
        if name in parameters and tuple(parameters[name].shape) != shape
    ]
    problems = [f"{name} is missing" for name in missing] + wrong
    problems += [f"{name} has no place in the model" for name in extra]
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        raise InputError(f"The weights do not fit the configuration: {shown}.")
