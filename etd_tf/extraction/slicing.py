"""Applying a plan to weights: indexing and nothing else, in NumPy.

Each axis of a weight is cut to the kept units of its kind, as the table in
`modeling/structure.py` says. Weights whose columns are query-key dims, kernels and biases,
are then multiplied by the plan's attention scale.
"""

from collections.abc import Mapping

import numpy as np

from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.modeling.structure import (
    FFN,
    HIDDEN,
    QUERY_KEY,
    VALUE,
    Weight,
    check_parameters,
    parameter_shapes,
    weights_of,
)
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
    heads = {"pooler": "pooler.kernel" in parameters, "mlm_head": "mlm.dense.kernel" in parameters}
    check_parameters(parameters, parameter_shapes(plan.teacher_config, **heads))
    student = {}
    for name, weight, layer in weights_of(plan.student_config.num_layers, **heads):
        source = name if layer is None else f"layers.{plan.layers[layer] - 1}.{weight.name}"
        student[name] = cut(parameters[source], weight, kept_units(plan, layer))
        if weight.axes[-1] == QUERY_KEY:
            student[name] *= student[name].dtype.type(plan.attention_scale)
    return student


def kept_units(plan: ExtractionPlan, layer: int | None) -> dict[str, IntArray]:
    """Kept units by kind, in a layer of the student, counted from 0, or outside of layers.

    Returns:
        Teacher indices; kinds that are never cut are left out.
    """
    kept = {HIDDEN: plan.hidden}
    if layer is not None:
        kept |= {
            QUERY_KEY: plan.query_key[layer],
            VALUE: plan.value[layer],
            FFN: plan.ffn[layer],
        }
    return kept


def cut(value: Array, weight: Weight, kept: Mapping[str, IntArray]) -> Array:
    """Cuts each axis of a weight to the kept units of its kind; a copy."""
    for axis, kind in enumerate(weight.axes):
        if kind in kept:
            value = np.take(value, kept[kind], axis=axis)
    return value.copy() if not set(weight.axes) & set(kept) else value
