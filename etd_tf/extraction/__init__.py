"""Extraction: score a teacher's units, plan which to keep, slice the student out."""

from etd_tf.extraction.compensation import CompensatedStudent, extract_compensated
from etd_tf.extraction.composition import compose
from etd_tf.extraction.importance import score_units
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.planning import plan_extraction
from etd_tf.extraction.scores import UnitScores
from etd_tf.extraction.slicing import slice_parameters
from etd_tf.extraction.student import extract, initial_student
from etd_tf.modeling.layer_map import layer_map

__all__ = [
    "CompensatedStudent",
    "ExtractionPlan",
    "UnitScores",
    "compose",
    "extract",
    "extract_compensated",
    "initial_student",
    "layer_map",
    "plan_extraction",
    "score_units",
    "slice_parameters",
]
