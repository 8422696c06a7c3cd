"""The report of a run: `report.json` for programs and `report.html` for people."""

from etd_tf.export import Export
from etd_tf.reporting.facts import (
    describe_machine,
    make_curves,
    model_facts,
    scoring_flops,
    training_flops,
)
from etd_tf.reporting.report import (
    Check,
    Cost,
    Curve,
    ExtractionFacts,
    Machine,
    ModelFacts,
    RunReport,
)
from etd_tf.reporting.writing import write_report

__all__ = [
    "Check",
    "Cost",
    "Curve",
    "Export",
    "ExtractionFacts",
    "Machine",
    "ModelFacts",
    "RunReport",
    "describe_machine",
    "make_curves",
    "model_facts",
    "scoring_flops",
    "training_flops",
    "write_report",
]
