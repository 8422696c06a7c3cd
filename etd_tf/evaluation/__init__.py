"""Fine-tuning, inference and latency.

Names are loaded on first use.
"""

from etd_tf.lazy import lazy_names

_HOMES = {
    "FinetuneOptions": "options",
    "FinetuneResult": "finetuning",
    "FinetunedModel": "finetuned",
    "LatencyComparison": "latency",
    "LatencyStats": "latency",
    "SequenceClassifier": "classifiers",
    "SpanClassifier": "classifiers",
    "TokenClassifier": "classifiers",
    "benchmark_models": "latency",
    "compare_latency": "latency",
    "export_finetuned": "serving",
    "finetune": "finetuning",
    "load_finetuned": "finetuned",
    "measure_latency": "latency",
    "save_finetuned": "finetuned",
}

__all__ = list(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
