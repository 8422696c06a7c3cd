"""Fine-tuning on GLUE and SQuAD, official metrics, similarity probe and latency.

Names are loaded on first use: metrics need no TensorFlow.
"""

import importlib
from typing import Any

_HOMES = {
    "FinetuneOptions": "finetuning",
    "FinetuneResult": "finetuning",
    "FinetunedModel": "finetuned",
    "GlueExperiment": "glue",
    "LatencyComparison": "latency",
    "LatencyStats": "latency",
    "SequenceClassifier": "classifiers",
    "SpanClassifier": "classifiers",
    "SquadExperiment": "question_answering",
    "benchmark_models": "benchmark",
    "compare_latency": "latency",
    "compare_sts": "probe",
    "compute_metrics": "metrics",
    "exact_match": "squad",
    "export_classifier": "serving",
    "export_question_answerer": "serving",
    "f1_score": "squad",
    "finetune": "finetuning",
    "load_finetuned": "finetuned",
    "measure_latency": "latency",
    "save_finetuned": "finetuned",
    "score_predictions": "squad",
    "sentence_embeddings": "probe",
    "sts_probe": "probe",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"etd_tf.evaluation.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'etd_tf.evaluation' has no attribute {name!r}")
