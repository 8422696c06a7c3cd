"""Extraction: score a teacher's units, plan which to keep, slice the student out.

Names are loaded on first use: the ways to begin are listed without Keras.
"""

from etd_tf.lazy import lazy_names
from etd_tf.modeling.layer_map import layer_map

_HOMES = {
    "CompensatedStudent": "starts.compensation",
    "ExtractionOptions": "starts",
    "ExtractionPlan": "plan",
    "STARTS": "starts",
    "UnitScores": "scores",
    "extract": "student",
    "extract_compensated": "starts.compensation",
    "initial_student": "student",
    "plan_extraction": "planning",
    "score_units": "importance",
    "slice_parameters": "slicing",
}

__all__ = [*_HOMES, "layer_map"]  # noqa: PLE0604
__getattr__ = lazy_names(__name__, _HOMES)
