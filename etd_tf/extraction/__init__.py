"""Extraction: score a teacher's units, plan which to keep, slice the student out.

Names are loaded on first use: the ways to begin are listed without Keras.
"""

from etd_tf.lazy import lazy_names

_HOMES = {
    "CompensatedStudent": "starts.compensation",
    "ExtractionOptions": "starts",
    "ExtractionPlan": "plan",
    "STARTS": "starts",
    "UnitScores": "scores",
    "extract": "student",
    "extract_compensated": "starts.compensation",
    "initial_student": "student",
    "layer_map": "layer_map",
    "plan_extraction": "planning",
    "score_units": "importance",
    "slice_parameters": "slicing",
}

__all__ = list(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
