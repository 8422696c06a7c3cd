"""Benchmark tasks: their data, official metrics and prediction files.

Names are loaded on first use: metrics need no TensorFlow.
"""

from etd_tf.lazy import lazy_names

_HOMES = {
    "GlueExperiment": "glue",
    "SquadExperiment": "squad",
    "compare_sts": "probe",
    "compute_metrics": "metrics",
    "exact_match": "squad_metrics",
    "f1_score": "squad_metrics",
    "score_predictions": "squad_metrics",
    "sentence_embeddings": "probe",
    "sts_probe": "probe",
}

__all__ = list(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
