"""Weights as NumPy arrays under canonical names.

The canonical names are the meeting point of all checkpoint formats and of extraction:
a format's reader or writer is a table from its names to these, and extraction slices
these arrays. Kernels are `[input, output]`; attention kernels are `[H, N*D]`, column
n*D + j being dim j of head n.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from etd_tf.modeling.encoder import BertEncoder
from etd_tf.modeling.heads import MaskedLMHead
from etd_tf.modeling.structure import check_parameters, weights_of
from etd_tf.types import Parameters


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
    names = [
        name
        for name, _, _ in weights_of(
            len(encoder.encoder_layers),
            pooler=encoder.pooler is not None,
            mlm_head=mlm_head is not None,
        )
    ]
    return {name: _variable(name, encoder, mlm_head) for name in names}


def _variable(name: str, encoder: BertEncoder, mlm_head: MaskedLMHead | None) -> keras.Variable:
    """Walks from a model to a variable: names are paths of attributes."""
    first, *path = name.split(".")
    found: Any = mlm_head if first == "mlm" else getattr(encoder, first, None)
    if first == "layers":
        found, path = encoder.encoder_layers[int(path[0])], path[1:]
    for part in path:
        # `output` is taken in Keras layers.
        found = getattr(found, "output_dense" if part == "output" else part)
    return found


def get_parameters(encoder: BertEncoder, mlm_head: MaskedLMHead | None = None) -> Parameters:
    """Copies all weights into float32 NumPy arrays.

    Args:
        encoder: The encoder.
        mlm_head: Its masked-LM head, if any.
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
