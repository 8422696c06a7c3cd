"""Metrics of importance: one object each, which commands, starts and reports ask."""

from etd_tf.extraction.metrics.activation import Activation
from etd_tf.extraction.metrics.dynabert import DynaBert
from etd_tf.extraction.metrics.magnitude import Magnitude
from etd_tf.extraction.metrics.metric import (
    Amount,
    GradientMetric,
    Metric,
    TextMetric,
    UnitScorer,
    weighted_sum,
)
from etd_tf.extraction.metrics.taylor import Taylor

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (Taylor(), Magnitude(), Activation(), DynaBert())
}
"""Every metric, by the name that `--importance_metric` takes."""


__all__ = [
    "METRICS",
    "Amount",
    "GradientMetric",
    "Metric",
    "TextMetric",
    "UnitScorer",
    "weighted_sum",
]
