"""Applying a plan to weights: indexing and nothing else, in NumPy.

The rules for a post-LayerNorm BERT, with `hid`, `qk`, `vo`, `ffn` the plan's indices and
s its attention scale:

    embeddings                E[:, hid]
    queries and keys          s * W[hid, qk], s * b[qk]
    values                    W[hid, vo], b[vo]
    attention output          W[vo, hid], b[hid]
    feed-forward in and out   W[hid, ffn], b[ffn]; W[ffn, hid], b[hid]
    LayerNorms                gamma[hid], beta[hid]
    pooler, masked-LM dense   W[hid, hid], b[hid]
    masked-LM output bias     unchanged; its kernel is tied to the token embeddings
"""

from collections.abc import Iterator, Mapping

import numpy as np

from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.modeling.parameters import check_parameters, parameter_shapes
from etd_tf.types import Array, IntArray, Parameters


def slice_parameters(parameters: Mapping[str, Array], plan: ExtractionPlan) -> Parameters:
    """Cuts a student's weights out of its teacher's.

    Args:
        parameters: All teacher weights by canonical name, kernels `[input, output]`; a
            pooler and a masked-LM head are cut too where present.
        plan: The plan.

    Returns:
        The student's weights, as new arrays of the same dtypes.

    Raises:
        InputError: The weights are not those of the plan's teacher architecture.
    """
    pooler, mlm_head = "pooler.kernel" in parameters, "mlm.dense.kernel" in parameters
    shapes = parameter_shapes(plan.teacher_config, pooler=pooler, mlm_head=mlm_head)
    check_parameters(parameters, shapes)
    student = dict(_outside_layers(parameters, plan.hidden))
    for index, teacher_layer in enumerate(plan.layers):
        before, after = f"layers.{teacher_layer - 1}", f"layers.{index}"
        weights = {
            name.removeprefix(f"{before}."): value
            for name, value in parameters.items()
            if name.startswith(f"{before}.")
        }
        for name, value in _layer(weights, plan, index):
            student[f"{after}.{name}"] = value
    return student


def _outside_layers(
    parameters: Mapping[str, Array], hidden: IntArray
) -> Iterator[tuple[str, Array]]:
    for name, value in parameters.items():
        if name.startswith("layers."):
            continue
        if name == "mlm.output_bias":
            yield name, value.copy()
        elif name in ("pooler.kernel", "mlm.dense.kernel"):
            yield name, value[np.ix_(hidden, hidden)]
        else:  # embedding tables and vectors: channels are the last axis
            yield name, np.take(value, hidden, axis=-1)


def _layer(
    weights: Mapping[str, Array], plan: ExtractionPlan, index: int
) -> Iterator[tuple[str, Array]]:
    hidden, ffn = plan.hidden, plan.ffn[index]
    query_key, value = plan.query_key[index], plan.value[index]
    axes = {  # rows and columns of each kernel; a bias follows the columns
        "attention.query": (hidden, query_key),
        "attention.key": (hidden, query_key),
        "attention.value": (hidden, value),
        "attention.output": (value, hidden),
        "intermediate": (hidden, ffn),
        "output": (ffn, hidden),
    }
    for name, (rows, columns) in axes.items():
        kernel = weights[f"{name}.kernel"][np.ix_(rows, columns)]
        bias = weights[f"{name}.bias"][columns]
        if name in ("attention.query", "attention.key"):
            scale = kernel.dtype.type(plan.attention_scale)
            kernel, bias = scale * kernel, scale * bias
        yield f"{name}.kernel", kernel
        yield f"{name}.bias", bias
    for name in ("attention_layer_norm", "output_layer_norm"):
        yield f"{name}.gamma", weights[f"{name}.gamma"][hidden]
        yield f"{name}.beta", weights[f"{name}.beta"][hidden]
